// expect: spawn: the actor has no public list of commands
// max-lines: 16
#include <pulsar/actors/spawn.hpp>

class clerk : public pulsar::actor<clerk> {
 public:
  int add(int a, int b) { return a + b; }
};

void wrong() { pulsar::spawn<clerk>().detach(); }
