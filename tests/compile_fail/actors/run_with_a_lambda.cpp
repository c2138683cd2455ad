// expect: send: cmd::run takes a free function of this program, as pulsar::fn
// max-lines: 14
#include <pulsar/actors/send.hpp>

void wrong(pulsar::actor_ref<> someone) {
  send(someone, pulsar::cmd::run, [](int n) { return 2 * n; }, 3).detach();
}
