// expect: subprocess_exec takes texts, and subprocess_options at the end
// max-lines: 20
#include <pulsar/core/subprocess.hpp>

void f(pulsar::event_loop& loop) { loop.subprocess_exec("sleep", 10).detach(); }
