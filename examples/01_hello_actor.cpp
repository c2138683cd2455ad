// An actor in a process of its own, commands checked when compiled, and a crash that costs nothing else.
// [hello]
#include <pulsar/pulsar.hpp>

#include <map>

using namespace pulsar::literals;

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string account, long cents) { return accounts_[account] += cents; }
  pulsar::future<long> audit(std::string account) { co_return accounts_.at(account); }
  void crash() { std::abort(); }
  using commands = pulsar::commands<&ledger::deposit, pulsar::named<"check", &ledger::audit>,
                                    &ledger::crash>;

 private:
  std::map<std::string, long> accounts_;
};

pulsar::future<> app() {
  auto bank = co_await pulsar::spawn<ledger>(pulsar::spawn_options{.name = "bank"});
  co_await send(bank, "deposit"_cmd, "ann", 250);
  co_await send<&ledger::deposit>(bank, "ann", 250);
  fmt::print("ann has {}\n", co_await send(bank, "check"_cmd, "ann"));

  auto nobody = co_await as_result(send(bank, "check"_cmd, "bob"));
  fmt::print("bob: {}\n", nobody.message());

  auto crashed = co_await as_result(send(bank, "crash"_cmd));
  fmt::print("gone: {}\n", crashed.code() == pulsar::errc::actor_gone);
}

int main(int argc, char** argv) { return pulsar::run(argc, argv, app); }
// [/hello]
// output:
// ann has 500
// bob: map::at
// gone: true
