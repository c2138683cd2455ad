// expect: write std::move\(...\) around it
// max-lines: 18
#include <pulsar/core/timeout.hpp>

pulsar::future<int> f(pulsar::future<int> page) { return pulsar::with_timeout(page, std::chrono::seconds(5)); }
