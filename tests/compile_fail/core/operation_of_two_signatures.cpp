// expect: use_future and use_result are for operations whose handler is called in one way
// max-lines: 60
#include <pulsar/core/operation.hpp>

void f() {
  auto never = asio::async_initiate<const pulsar::use_future_t, void(int), void(long)>(
      [](auto) {}, pulsar::use_future);
}
