// expect: g\+\+ 12.2 frees this temporary twice: name it, or write pulsar::make<T>
// max-lines: 14
#include <pulsar/actors/send.hpp>

#include <string>

#if defined(__clang__) || __GNUC__ != 12
#error "g++ 12.2 frees this temporary twice: name it, or write pulsar::make<T>(...); others do not"
#endif

struct entry {
  std::string text;
  int number = 0;
};

pulsar::future<> wrong(pulsar::actor_ref<> log) {
  co_await send(log, "write", entry{"text", 3});
}
