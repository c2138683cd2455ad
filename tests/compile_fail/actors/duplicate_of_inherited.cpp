// expect: two commands have the same name: give one another with named<"name", &A::f>
// max-lines: 14
#include <pulsar/actors/command.hpp>

struct ledger {
  long deposit(long cents);
  using commands = pulsar::commands<&ledger::deposit>;
};
struct savings : ledger {
  long deposit(long cents, long months);
  using commands = pulsar::commands<pulsar::commands_of<ledger>, &savings::deposit>;
};
