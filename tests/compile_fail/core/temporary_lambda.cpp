// expect: g\+\+ 12.2 frees this lambda twice: name it, and hand over the name, of which a copy
// max-lines: 16
#include <pulsar/core/executor.hpp>

#include <string>

#if defined(__clang__) || __GNUC__ != 12
#error "g++ 12.2 frees this lambda twice: name it, and hand over the name, of which a copy; others do not"
#endif

pulsar::future<std::size_t> wrong(pulsar::event_loop& loop, std::string text) {
  co_return co_await loop.run_in_executor([text] { return text.size(); });
}
