// expect: the actor has no command of this name: is it in its commands<...>
// max-lines: 14
#include <pulsar/actors/send.hpp>

#include <string>

using namespace pulsar::literals;

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string account, long cents);
  using commands = pulsar::commands<&ledger::deposit>;
};

void wrong(pulsar::actor_ref<ledger> bank) { send(bank, "withdraw"_cmd, "ann", 250).detach(); }
