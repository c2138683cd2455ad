// expect: a raw pointer does not travel
// expect: send the value, a std::optional or a std::unique_ptr
// expect: message
// max-lines: 21
#include <pulsar/core/codec.hpp>

struct message {
  int id = 0;
  char* text = nullptr;
};

void f(pulsar::buffer& out, const message& m) { encode(out, m); }
