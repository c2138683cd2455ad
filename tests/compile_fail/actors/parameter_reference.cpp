// expect: parameter is T&: actors share nothing, take T or const T&
// max-lines: 24
#include <pulsar/actors/command.hpp>

#include <string>

struct ledger {
  void deposit(std::string& account);
  using commands = pulsar::commands<&ledger::deposit>;
};
