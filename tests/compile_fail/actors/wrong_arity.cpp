// expect: the command takes another number of arguments
// max-lines: 14
#include <pulsar/actors/send.hpp>

#include <string>

using namespace pulsar::literals;

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string account, long cents);
  using commands = pulsar::commands<&ledger::deposit>;
};

void wrong(pulsar::actor_ref<ledger> bank) { send(bank, "deposit"_cmd, "ann").detach(); }
