// Items that come one after the other: from a generator, and from a thread through a channel.
#include <pulsar/core/channel.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/generator.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/run_threadsafe.hpp>
#include <pulsar/core/timeout.hpp>

#include <fmt/format.h>

#include <string>
#include <thread>

using namespace std::chrono_literals;

// [generator]
pulsar::generator<std::string> lines_of(std::string text) {
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = text.find('\n', begin);
    co_await pulsar::sleep(1ms);  // more of it arrives
    co_yield text.substr(begin, end - begin);
    begin = end + 1;
  }
}

pulsar::future<> show_lines() {
  auto lines = lines_of("one\ntwo\nthree\n");
  while (const std::string* line = co_await lines.next()) fmt::print("{}\n", *line);
}
// [/generator]

pulsar::future<int> add_up(pulsar::channel<int>& numbers) {
  int sum = 0;
  for (;;) {
    auto next = co_await as_result(numbers.receive());
    if (!next) break;  // errc::closed: there will be no more
    sum += *next;
  }
  co_return sum;
}

// [threads]
void work_in_a_thread(pulsar::event_loop& loop, pulsar::channel<int>& numbers) {
  for (int i = 1; i <= 100; ++i) numbers.send_wait(i);  // waits while ten are in it
  numbers.close();
  auto last = pulsar::run_threadsafe(loop, [] { return pulsar::sleep(1ms); });
  last.get(5s);
}
// [/threads]

int main() {
  pulsar::event_loop loop;
  loop.run_until_complete(show_lines);

  pulsar::channel<int> numbers(10);
  std::thread worker([&] {
    work_in_a_thread(loop, numbers);
    loop.stop();
  });
  auto sum = add_up(numbers);
  loop.run_forever();
  worker.join();
  fmt::print("{}\n", sum.result());
}
// output:
// one
// two
// three
// 5050
