// expect: write std::move\(...\) around it
// max-lines: 22
#include <pulsar/core/future.hpp>

int f(pulsar::event_loop& loop, pulsar::future<int> page) { return loop.run_until_complete(page); }
