// expect: make it a future of std::optional or std::unique_ptr
// max-lines: 12
#include <pulsar/core/interop.hpp>

struct demanding {
  explicit demanding(int);
};
void f(pulsar::future<demanding> d) {
  pulsar::async_wait(std::move(d), [](std::exception_ptr, auto) {});
}
