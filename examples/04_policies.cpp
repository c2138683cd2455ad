// The same actor in the same loop, in a thread and in a process: only the policy differs.
#include <pulsar/pulsar.hpp>

#include <thread>

using namespace pulsar::literals;

class worker : public pulsar::actor<worker> {
 public:
  explicit worker(int factor) : factor_(factor) {}
  int times(int x) { return factor_ * x; }
  bool here(long pid) { return pid == ::getpid(); }
  using commands = pulsar::commands<&worker::times, &worker::here>;

 private:
  int factor_;
};

template <class Policy>
pulsar::future<> show(int factor) {
  auto a = co_await pulsar::spawn<worker, Policy>(factor);
  const int product = co_await send(a, "times"_cmd, 7);
  const bool here = co_await send(a, "here"_cmd, long{::getpid()});
  fmt::print("{}: {} {}\n", Policy::name, product, here ? "here" : "elsewhere");
  co_await send(a, pulsar::cmd::stop);
}

pulsar::future<> app() {
  co_await show<pulsar::concurrency::coroutine>(2);
  co_await show<pulsar::concurrency::thread>(3);
  co_await show<pulsar::concurrency::process>(4);
}

int main(int argc, char** argv) { return pulsar::run(argc, argv, app); }
// output:
// coroutine: 14 here
// thread: 21 here
// process: 28 elsewhere
