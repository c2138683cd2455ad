// expect: the type of this actor is known here: write "name"_cmd, which is checked, or send<Result>
// max-lines: 14
#include <pulsar/actors/send.hpp>

class ledger : public pulsar::actor<ledger> {
 public:
  long deposit(std::string, long cents) { return cents; }
  using commands = pulsar::commands<&ledger::deposit>;
};

void wrong(pulsar::actor_ref<ledger> bank) { send(bank, "deposit", "ann", 250).detach(); }
