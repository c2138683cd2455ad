// expect: std::shared_ptr or std::unique_ptr to a class that derives from
// max-lines: 15
#include <pulsar/core/connections.hpp>

struct stranger {};

void f(pulsar::event_loop& loop) {
  loop.create_server([] { return std::make_shared<stranger>(); }, ":0").detach();
}
