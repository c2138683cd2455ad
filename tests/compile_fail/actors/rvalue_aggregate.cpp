// expect: g\+\+ 12.2 frees this temporary twice: name it, or write pulsar::make<T>
// max-lines: 14
#include <pulsar/actors/send.hpp>

#include <string>

#if defined(__clang__) || __GNUC__ != 12
#error "g++ 12.2 frees this temporary twice: name it, or write pulsar::make<T>(...); others do not"
#endif

using namespace pulsar::literals;

struct entry {
  std::string text;
  int number = 0;
};

class journal : public pulsar::actor<journal> {
 public:
  void write(entry what);
  using commands = pulsar::commands<&journal::write>;
};

pulsar::future<> wrong(pulsar::actor_ref<journal> log) {
  co_await send(log, "write"_cmd, entry{"text", 3});
}
