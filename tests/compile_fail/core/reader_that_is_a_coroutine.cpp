// expect: have it call detach\(\) on the future
// max-lines: 12
#include <pulsar/core/future.hpp>
#include <pulsar/core/watch.hpp>

pulsar::future<> save();

void f(pulsar::event_loop& loop) { loop.add_reader(0, [] { return save(); }); }
