// expect: a command's parameter is a pointer: actors share nothing, take the value
#include <pulsar/actors/send.hpp>

int length_of(const char* text);

void wrong(pulsar::actor_ref<> someone) {
  send(someone, pulsar::cmd::run, pulsar::fn<&length_of>, "text").detach();
}
