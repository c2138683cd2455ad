// expect: the handler of start_server must be copyable: capture a std::shared_ptr
// max-lines: 14
#include <pulsar/core/server.hpp>

#include <memory>

auto f(std::unique_ptr<int> p) {
  auto serve = [p = std::move(p)](pulsar::stream) -> pulsar::future<> { co_return; };
  return pulsar::start_server(pulsar::moved(serve), "127.0.0.1:0");
}
