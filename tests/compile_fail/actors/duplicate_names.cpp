// expect: two commands have the same name: give one another with named<"name", &A::f>
// max-lines: 14
#include <pulsar/actors/command.hpp>

struct ledger {
  long deposit(long cents);
  long audit(long account);
  using commands = pulsar::commands<&ledger::deposit, pulsar::named<"deposit", &ledger::audit>>;
};
