// expect: a member is a reference or has no default constructor
// expect: view_of
// max-lines: 21
#include <pulsar/core/codec.hpp>

struct view_of {
  const int& value;
};

void f(pulsar::buffer& out, const view_of& v) { encode(out, v); }
