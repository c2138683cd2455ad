// expect: the type of this actor is not known here: send<Result>.ref, "name", [.]+.
// max-lines: 14
#include <pulsar/actors/send.hpp>

using namespace pulsar::literals;

void wrong(pulsar::actor_ref<> someone) { send(someone, "deposit"_cmd, "ann", 250).detach(); }
