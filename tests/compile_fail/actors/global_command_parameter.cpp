// expect: a command's parameter is a pointer: actors share nothing, take the value
#include <pulsar/actors/actor.hpp>

inline long uptime_of(pulsar::actor_base& a, const char*) { return a.uptime().count(); }
inline constexpr pulsar::command<"uptime", &uptime_of> uptime;
