// expect: does not heed the alignment of this type
// max-lines: 16
#include <pulsar/core/future.hpp>

struct alignas(64) wide {
  double d[8] = {};
};

pulsar::future<wide> make() { co_return wide(); }
