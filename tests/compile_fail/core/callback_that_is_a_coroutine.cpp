// expect: give it to create_task, or have it call detach\(\) on the future
// max-lines: 18
#include <pulsar/core/future.hpp>

pulsar::future<> save();

void f(pulsar::event_loop& loop) { loop.call_soon([] { return save(); }); }
