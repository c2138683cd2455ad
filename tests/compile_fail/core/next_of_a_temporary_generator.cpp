// expect: deleted
// max-lines: 20
#include <pulsar/core/generator.hpp>

pulsar::generator<int> count();
pulsar::future<> f() { static_cast<void>(co_await count().next()); }
