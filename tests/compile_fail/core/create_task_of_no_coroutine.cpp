// expect: must return a future<...>
// max-lines: 30
#include <pulsar/core/future.hpp>

void f(pulsar::event_loop& loop) { loop.run_until_complete([] {}); }
