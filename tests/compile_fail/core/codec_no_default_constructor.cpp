// expect: give this type a default constructor
// expect: percent
// max-lines: 21
#include <pulsar/core/codec.hpp>

#include <tuple>

class percent {
 public:
  explicit percent(int value) : value_(value) {}
  friend auto pulsar_fields(percent& p) { return std::tie(p.value_); }

 private:
  int value_;
};

percent f(const pulsar::buffer& in) { return pulsar::decode<percent>(in); }
