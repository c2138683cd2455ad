// expect: this member function is not in the actor's commands<...>
// max-lines: 14
#include <pulsar/actors/send.hpp>

#include <string>

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string account, long cents);
  long audit(std::string account);
  using commands = pulsar::commands<&ledger::deposit>;
};

void wrong(pulsar::actor_ref<ledger> bank) { send<&ledger::audit>(bank, "ann").detach(); }
