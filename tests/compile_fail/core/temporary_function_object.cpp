// expect: g\+\+ 12.2 frees this temporary twice: name it, or write pulsar::make<T>
// max-lines: 16
#include <pulsar/core/retry.hpp>

#include <string>

#if defined(__clang__) || __GNUC__ != 12
#error "g++ 12.2 frees this temporary twice: name it, or write pulsar::make<T>(...); others do not"
#endif

struct dial {
  std::string where;
  pulsar::future<int> operator()();
};

pulsar::future<int> wrong() { co_return co_await pulsar::retry({.tries = 2}, dial{"there"}); }
