// expect: does not convert to the future's type by itself
// max-lines: 22
#include <pulsar/core/future.hpp>

#include <chrono>

pulsar::future<std::chrono::seconds> waiting() { co_return 5000; }
