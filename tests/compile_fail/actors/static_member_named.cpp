// expect: static members and free functions are no commands
#include <pulsar/actors/command.hpp>

struct ledger {
  static long deposit(long cents);
  using commands = pulsar::commands<pulsar::named<"put", &ledger::deposit>>;
};
