// expect: (unresolved overloaded function type|no matching|incompatible|overload)
#include <pulsar/actors/command.hpp>

struct ledger {
  long deposit(long cents);
  long deposit(long cents, long months);
  using commands = pulsar::commands<&ledger::deposit>;
};
