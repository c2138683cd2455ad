// expect: refers to memory of the sender .string_view, span.: take std::string or std::vector
// max-lines: 24
#include <pulsar/actors/command.hpp>

#include <span>

struct ledger {
  void deposit(std::span<const int> cents);
  using commands = pulsar::commands<&ledger::deposit>;
};
