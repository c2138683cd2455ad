// pulsar without actors: futures, combinators and timers in one loop.
#include <pulsar/pulsar.hpp>

using namespace std::chrono_literals;

// [combine]
pulsar::future<int> slow_square(int x) {
  co_await pulsar::sleep(2ms);
  co_return x * x;
}

pulsar::future<> combine() {
  auto both = co_await when_all(slow_square(3), slow_square(4));
  fmt::print("{}\n", std::get<0>(both) + std::get<1>(both));

  auto first = co_await when_any(slow_square(5), pulsar::sleep(1h));
  fmt::print("{}\n", first.get<0>());

  auto late = co_await as_result(with_timeout(pulsar::sleep(1h), 1ms));
  fmt::print("{}\n", late.message());

  pulsar::task_group group;
  for (int i = 0; i < 3; ++i) group.add(slow_square(i));
  co_await group.join();
}
// [/combine]

// [promise]
void settle_by_hand(pulsar::event_loop& loop) {
  auto promise = loop.create_future<int>();
  auto doubled = promise.get_future().then([](int x) { return 2 * x; });
  loop.call_later(1ms, [&] { promise.set_value(21); });
  fmt::print("{}\n", loop.run_until_complete(std::move(doubled)));
}
// [/promise]

int main() {
  pulsar::event_loop loop;
  loop.run_until_complete(combine);
  settle_by_hand(loop);
}
// output:
// 25
// 25
// not done within 1 ms: timed out
// 42
