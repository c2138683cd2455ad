// expect: spawn: the actor has no public list of commands
// max-lines: 16
#include <pulsar/actors/spawn.hpp>

class clerk : public pulsar::actor<clerk> {
  int add(int a, int b) { return a + b; }
  using commands = pulsar::commands<&clerk::add>;
};

void wrong() { pulsar::spawn<clerk, pulsar::concurrency::thread>().detach(); }
