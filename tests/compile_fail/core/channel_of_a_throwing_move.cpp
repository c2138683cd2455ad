// expect: a channel moves its items while it is locked
// max-lines: 20
#include <pulsar/core/channel.hpp>

struct fragile {
  fragile(fragile&&) noexcept(false);
  fragile& operator=(fragile&&) noexcept(false);
};
void f(pulsar::channel<fragile>& c) { c.close(); }
