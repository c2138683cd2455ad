// expect: a view cannot be decoded.*decode a std::string or a std::vector
// expect: line
// max-lines: 21
#include <pulsar/core/codec.hpp>

#include <string_view>

struct line {
  std::string_view text;
};

line f(const pulsar::buffer& in) { return pulsar::decode<line>(in); }
