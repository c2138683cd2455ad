// expect: has pulsar_encode but no bool pulsar_decode
// expect: shout
// max-lines: 21
#include <pulsar/core/codec.hpp>

#include <string>

class shout {
 public:
  friend void pulsar_encode(pulsar::encoder& out, const shout&) { out.write(std::string("!")); }
};

shout f(const pulsar::buffer& in) { return pulsar::decode<shout>(in); }
