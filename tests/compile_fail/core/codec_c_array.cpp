// expect: it holds a C array: use std::array, or write pulsar_fields
// expect: packet
// max-lines: 21
#include <pulsar/core/codec.hpp>

struct packet {
  int id = 0;
  char name[16] = {};
};

void f(pulsar::buffer& out, const packet& p) { encode(out, p); }
