// expect: it has a base: make the base its first member, or write pulsar_fields
// expect: letter
// max-lines: 21
#include <pulsar/core/codec.hpp>

#include <string>

struct header {
  int id = 0;
};
struct letter : header {
  std::string text;
};

void f(pulsar::buffer& out, const letter& l) { encode(out, l); }
