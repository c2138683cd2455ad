// expect: parameter is a pointer: actors share nothing, take the value
// max-lines: 24
#include <pulsar/actors/command.hpp>

#include <string>

struct ledger {
  void deposit(long* cents);
  using commands = pulsar::commands<&ledger::deposit>;
};
