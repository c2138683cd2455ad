// expect: g\+\+ 12.2 frees this lambda twice: name it, and hand over the name, of which a copy
// max-lines: 16
#include <pulsar/core/server.hpp>

#include <string>
#include <utility>

#if defined(__clang__) || __GNUC__ != 12
#error "g++ 12.2 frees this lambda twice: name it, and hand over the name, of which a copy; others do not"
#endif

pulsar::future<> greet(pulsar::stream peer, std::string text);

pulsar::future<pulsar::server> wrong(std::string text) {
  co_return co_await pulsar::start_server(
      [text](pulsar::stream peer) { return greet(std::move(peer), text); }, "127.0.0.1:0");
}
