// Coroutines of one thread that share work: a queue with room for two, and one printer for all.
#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/async_queue.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/result.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include <fmt/format.h>

#include <string>

using namespace std::chrono_literals;

// [queue]
struct office {
  pulsar::async_queue<std::string> letters{2};
  pulsar::async_mutex printer{};
};

pulsar::future<> write_letters(office& at) {
  for (const char* to : {"ann", "bob", "cid", "dan"}) co_await at.letters.put(to);  // waits if full
  at.letters.close();
}

pulsar::future<> print_letters(office& at, int clerk) {
  for (;;) {
    auto letter = co_await as_result(at.letters.get());
    if (!letter) break;  // errc::closed: there will be no more
    const auto lock = co_await at.printer.lock();  // until the end of the block
    co_await pulsar::sleep(1ms);
    fmt::print("clerk {}: dear {}\n", clerk, *letter);
  }
}
// [/queue]

pulsar::future<> open_office() {
  office here;
  const auto work = [&here](pulsar::task_group& group) -> pulsar::future<> {
    group.add(print_letters(here, 1));
    group.add(print_letters(here, 2));
    co_await write_letters(here);
  };
  co_await pulsar::with_task_group(work);
}

int main() {
  pulsar::event_loop loop;
  loop.run_until_complete(open_office);
}
// output:
// clerk 1: dear ann
// clerk 2: dear bob
// clerk 1: dear cid
// clerk 2: dear dan
