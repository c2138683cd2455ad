// expect: spawn: the class is no actor: derive it publicly
// max-lines: 14
#include <pulsar/actors/spawn.hpp>

class clerk {
 public:
  int add(int a, int b) { return a + b; }
  using commands = pulsar::commands<&clerk::add>;
};

void wrong() { pulsar::spawn<clerk>().detach(); }
