// expect: as_completed gives results of one type
// max-lines: 14
#include <pulsar/core/as_completed.hpp>

void f(pulsar::future<int> a, pulsar::future<long> b) {
  auto both = pulsar::as_completed(std::move(a), std::move(b));
}
