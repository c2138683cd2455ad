// expect: the handler of start_server is called with a pulsar::stream and must return a
// max-lines: 14
#include <pulsar/core/server.hpp>

void serve(pulsar::stream);

auto f() { return pulsar::start_server(&serve, "127.0.0.1:0"); }
