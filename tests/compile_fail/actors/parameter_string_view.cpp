// expect: refers to memory of the sender .string_view, span.: take std::string or std::vector
// max-lines: 24
#include <pulsar/actors/command.hpp>

#include <string_view>

struct ledger {
  void deposit(std::string_view account);
  using commands = pulsar::commands<&ledger::deposit>;
};
