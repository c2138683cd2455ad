// expect: spawn: the actor has no public constructor for these arguments
// max-lines: 14
#include <pulsar/actors/spawn.hpp>

class clerk : public pulsar::actor<clerk> {
 public:
  explicit clerk(int) {}
  using commands = pulsar::commands<>;
};

void wrong() { pulsar::spawn<clerk>("ann", 3).detach(); }
