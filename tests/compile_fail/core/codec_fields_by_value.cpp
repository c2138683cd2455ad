// expect: must return std::tie\(...\) of the fields
// expect: account
// max-lines: 21
#include <pulsar/core/codec.hpp>

#include <string>
#include <tuple>

class account {
 public:
  friend auto pulsar_fields(account& a) { return std::make_tuple(a.owner_, a.cents_); }

 private:
  std::string owner_;
  long cents_ = 0;
};

void f(pulsar::buffer& out, const account& a) { encode(out, a); }
