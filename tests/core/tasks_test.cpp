// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/tasks.hpp>

#include <pulsar/core/accept.hpp>
#include <pulsar/core/as_completed.hpp>
#include <pulsar/core/async_condition.hpp>
#include <pulsar/core/async_event.hpp>
#include <pulsar/core/async_mutex.hpp>
#include <pulsar/core/async_queue.hpp>
#include <pulsar/core/async_semaphore.hpp>
#include <pulsar/core/channel.hpp>
#include <pulsar/core/connect.hpp>
#include <pulsar/core/context.hpp>
#include <pulsar/core/executor.hpp>
#include <pulsar/core/generator.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/memory_stream.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/shared_future.hpp>
#include <pulsar/core/shield.hpp>
#include <pulsar/core/sock.hpp>
#include <pulsar/core/subprocess.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>
#include <pulsar/core/when_all.hpp>
#include <pulsar/core/when_any.hpp>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/futures.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using future_test::at;
using pulsar::clock_kind;
using pulsar::event_loop;
using pulsar::future;
using pulsar::task_info;
using pulsar::detail::age_text;
using pulsar::detail::function_name;

namespace {

unsigned leaf_line;
unsigned middle_line;
unsigned root_line;

unsigned next_line(std::source_location here = std::source_location::current()) {
  return here.line() + 1;
}

future<> leaf(event_loop& loop) {
  leaf_line = next_line();
  co_await pulsar::sleep(1h, loop);
}

future<int> middle(event_loop& loop) {
  co_await pulsar::sleep(1s, loop);
  middle_line = next_line();
  co_await leaf(loop);
  co_return 1;
}

template <class T>
future<T> root(event_loop& loop) {
  root_line = next_line();
  co_return co_await middle(loop);
}

struct member {
  future<> wait(event_loop& loop) const { co_await pulsar::sleep(1h, loop); }
};

// Runs the loop for that long, by its virtual clock.
void run_for(event_loop& loop, event_loop::duration time) {
  loop.call_later(time, [&loop] { loop.stop(); });
  loop.run_forever();
}

std::string here(unsigned line) { return std::string(__FILE__) + ":" + std::to_string(line); }

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

template <class T>
future<> hold(event_loop&, future<T> f) {
  static_cast<void>(co_await std::move(f));
}

template <class T>
future<> await_shared(event_loop&, pulsar::shared_future<T> f) {
  static_cast<void>(co_await f);
}

// `of` may be made meanwhile.
future<> await_later(event_loop& loop, const pulsar::shared_future<>& of) {
  co_await pulsar::sleep(1s, loop);
  co_await of;
}

std::vector<std::string> waits_of(event_loop& loop) {
  std::vector<std::string> all;
  for (const auto& each : loop.tasks()) all.push_back(each.waits_for);
  return all;
}

bool says(event_loop& loop, const std::string& what) {
  const auto all = waits_of(loop);
  return std::find(all.begin(), all.end(), what) != all.end();
}

// A file that is read back.
struct scratch_file {
  scratch_file() : file(std::tmpfile()) {}
  scratch_file(const scratch_file&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;
  ~scratch_file() { std::fclose(file); }

  std::string text() const {
    std::string all(65536, '\0');
    const auto n = ::pread(::fileno(file), all.data(), all.size(), 0);
    all.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return all;
  }
  std::FILE* file;
};

const task_info* find(const std::vector<task_info>& all, std::string_view function) {
  for (const auto& each : all) {
    if (each.function == function) return &each;
  }
  return nullptr;
}

std::string parent_of(const std::vector<task_info>& all, std::string_view function) {
  const task_info* const t = find(all, function);
  if (t == nullptr) return "not there";
  return t->awaiter == task_info::none ? "nobody" : all[t->awaiter].function;
}

}  // namespace

TEST_SUITE("tasks") {
  TEST_CASE("a chain of awaits is printed with functions, lines and ages") {
    event_loop loop(clock_kind::virtual_time);
    const auto running = root<int>(loop);
    run_for(loop, 3500ms);
    CHECK(format_tasks(loop) == "root at " + here(root_line) + ", 3.5 s\n" +            //
                                    "  middle at " + here(middle_line) + ", 3.5 s\n" +  //
                                    "    leaf at " + here(leaf_line) +
                                    ", 2.5 s: a sleep (59 min 57 s left)\n");
  }

  TEST_CASE("tasks() tells of each coroutine, the oldest first") {
    event_loop loop(clock_kind::virtual_time);
    CHECK(loop.tasks().empty());
    const auto running = root<int>(loop);
    run_for(loop, 90s);
    const auto tasks = loop.tasks();
    // The innermost suspends first.
    REQUIRE(tasks.size() == 3);
    CHECK(tasks[0].function == "middle");
    CHECK(tasks[0].line == middle_line);
    CHECK(contains(tasks[0].file, "tasks_test.cpp"));
    CHECK(tasks[0].age == 90s);
    CHECK(tasks[0].awaiter == 1);
    CHECK(tasks[0].waits_for == "");
    CHECK(tasks[1].function == "root");
    CHECK(tasks[1].awaiter == task_info::none);
    CHECK(tasks[2].function == "leaf");
    CHECK(tasks[2].age == 89s);
    CHECK(tasks[2].awaiter == 0);
    CHECK(tasks[2].waits_for == "a sleep (58 min 31 s left)");
    CHECK_FALSE(tasks[2].left.has_value());
    CHECK(tasks[2].log_fields.empty());
  }

  TEST_CASE("what has ended is not listed, nor what never suspended") {
    event_loop loop(clock_kind::virtual_time);
    auto quick = [](event_loop&) -> future<int> { co_return 1; }(loop);
    auto ends = pulsar::with_timeout(middle(loop), 1ms);
    run_for(loop, 1min);
    CHECK(ends.exception() != nullptr);
    CHECK(loop.tasks().empty());
    CHECK(quick.done());
    CHECK(format_tasks(loop) == "");
  }

  TEST_CASE("combinators stand between those they wait for and who awaits them") {
    event_loop loop(clock_kind::virtual_time);
    const auto all = [](event_loop& l) -> future<> {
      co_await when_all(leaf(l), when_any(middle(l), pulsar::sleep(2h, l)));
    };
    const auto limited = [](event_loop& l, const member& m) -> future<> {
      co_await with_timeout(m.wait(l), 3h);
    };
    const auto grouped = [](event_loop& l) -> future<> {
      pulsar::task_group group(l);
      group.add(root<int>(l));
      co_await group.join();
    };
    const member m;
    const auto a = all(loop);
    const auto b = limited(loop, m);
    const auto c = grouped(loop);
    run_for(loop, 10s);
    const auto tasks = loop.tasks();
    CHECK(tasks.size() == 15);
    const auto ancestors = [&](std::string_view function) {
      std::string names;
      const task_info* t = find(tasks, function);
      while (t != nullptr) {
        names += t->function + ' ';
        t = t->awaiter == task_info::none ? nullptr : &tasks[t->awaiter];
      }
      return names;
    };
    CHECK(contains(ancestors("when_any"), "when_any when_all "));
    CHECK(contains(ancestors("member::wait"), "member::wait with_timeout "));
    CHECK(contains(ancestors("root"), "root a child of task_group task_group::join "));
    CHECK(parent_of(tasks, "a child of task_group") == "task_group::join");
    CHECK(find(tasks, "when_any")->waits_for == "a sleep (1 h 59 min left)");
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    CHECK(contains(tree, "  with_timeout, 10 s, 2 h 59 min left\n    member::wait at "));
    CHECK(contains(tree,
                   "  task_group::join, 10 s: the children of a group\n"
                   "    a child of task_group, 10 s\n      root at "));
  }

  TEST_CASE("who awaits a shared_future or a shield stands above its work") {
    event_loop loop(clock_kind::virtual_time);
    const pulsar::shared_future<int> shared(middle(loop));
    const pulsar::shared_future<> sleeping(pulsar::sleep(1h, loop));
    const auto first = await_shared(loop, shared);
    const auto second = await_shared(loop, shared);
    const auto third = await_shared(loop, sleeping);
    const auto fourth = hold(loop, pulsar::shield(root<int>(loop)));
    run_for(loop, 2s);
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    const auto work = "middle at " + here(middle_line);
    const auto waits = ", 2 s: a shared future: " + work;
    CHECK(contains(tree, waits + "\n  " + work + ", 2 s\n    leaf at "));
    CHECK(contains(tree, waits + "\nawait_shared at "));
    CHECK(contains(tree, ", 2 s: a shared future: a sleep (59 min 58 s left)\n"));
    CHECK(contains(tree, ", 2 s: a shield\n  shield, 2 s\n    root at "));
  }

  TEST_CASE("coroutines that wait for one another stand there too") {
    event_loop loop(clock_kind::virtual_time);
    pulsar::shared_future<> a;
    pulsar::shared_future<> b;
    a = pulsar::shared_future<>(await_later(loop, b));
    b = pulsar::shared_future<>(await_later(loop, a));
    run_for(loop, 2s);
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    CHECK(std::count(tree.begin(), tree.end(), '\n') == 2);
    CHECK(contains(tree, ", 2 s: a shared future: await_later at "));
  }

  TEST_CASE("it says what a coroutine waits for") {
    event_loop loop;
    pulsar::async_mutex mutex;
    auto held = loop.run_until_complete(mutex.lock(loop));
    auto promise = loop.create_future();
    std::atomic<bool> go{false};
    asio::local::stream_protocol::socket mine(loop.context());
    asio::local::stream_protocol::socket theirs(loop.context());
    asio::local::connect_pair(mine, theirs);
    std::array<char, 1> byte{};
    const auto a = [](event_loop& l, pulsar::async_mutex& m) -> future<> {
      const auto lock = co_await m.lock(l);
    }(loop, mutex);
    const auto b = [](event_loop&, future<> f) -> future<> { co_await std::move(f); }(
                                                   loop, promise.get_future());
    const auto c = [](event_loop& l, std::atomic<bool>& on) -> future<> {
      auto busy = l.run_in_executor([&on] {
        while (!on) std::this_thread::yield();
      });
      co_await std::move(busy);
    }(loop, go);
    const auto d = [](event_loop&, auto& socket, auto& into) -> future<> {
      co_await socket.async_read_some(asio::buffer(into), pulsar::use_future);
    }(loop, mine, byte);
    std::string self;
    const auto e = [](event_loop& l, std::string& text) -> future<> {
      co_await pulsar::sleep(0s, l);
      text = l.tasks().back().waits_for;
    }(loop, self);
    std::vector<std::string> waits;
    for (const auto& each : loop.tasks()) waits.push_back(each.waits_for);
    CHECK(waits == std::vector<std::string>{"a mutex", "a promise", "a thread of an executor",
                                            "an operation", "a sleep"});
    loop.run_until_complete(pulsar::sleep(1ms, loop));
    CHECK(self == "it runs");
    go = true;
  }

  TEST_CASE("it says which lock, and which side of a queue") {
    event_loop loop(clock_kind::virtual_time);
    loop.set_exception_handler([](const pulsar::failure_report&) {});  // they end with the locks
    pulsar::async_mutex mutex;
    pulsar::async_semaphore semaphore(1);
    pulsar::async_event event;
    pulsar::async_condition condition(mutex);
    pulsar::async_queue<int> empty;
    pulsar::async_queue<int> full(1);
    pulsar::channel<int> hollow(1);
    pulsar::channel<int> brimful(1);
    auto held = mutex.try_lock();
    const auto permit = semaphore.try_acquire();
    CHECK(full.try_put(1));
    CHECK(brimful.try_send(1));
    const auto a = hold(loop, mutex.lock(loop));
    const auto b = hold(loop, semaphore.acquire(loop));
    const auto c = hold(loop, event.wait(loop));
    const auto d = hold(loop, empty.get(loop));
    const auto e = hold(loop, full.put(2, loop));
    const auto f = hold(loop, full.join(loop));
    const auto g = hold(loop, hollow.receive(loop));
    const auto h = hold(loop, brimful.send(2, loop));
    CHECK(waits_of(loop) == std::vector<std::string>{
                                "a mutex", "a semaphore", "an event", "an item of an empty queue",
                                "room in a full queue", "the items of a queue to be done",
                                "an item of an empty channel", "room in a full channel"});
    held.release();
    loop.run_until_complete(pulsar::sleep(0s, loop));
    auto guard = mutex.try_lock();
    const auto i = hold(loop, condition.wait(guard, loop));
    CHECK(says(loop, "a condition"));
  }

  TEST_CASE("a read and a write of a stream say with whom, a server where") {
    event_loop loop;
    pulsar::listener at(pulsar::address("127.0.0.1:0"));
    const std::string where = at.local().to_string();
    std::vector<pulsar::unique_fd> accepted;
    const auto accepting = pulsar::accept_each(
        loop, std::move(at), [&](pulsar::unique_fd fd) { accepted.push_back(std::move(fd)); });
    CHECK_MESSAGE(says(loop, "a connection at " + where), format_tasks(loop));
    auto mine = loop.run_until_complete([&] { return pulsar::connect(where, {}, loop); });
    const auto reading = hold(loop, mine.read_line());
    CHECK(says(loop, "a read from " + where));
    mine.write(std::string(16 << 20, 'x'));
    const auto draining = hold(loop, mine.drain());
    CHECK(says(loop, "a write to " + where));

    auto [near, far] = pulsar::memory_pair(10, {}, loop);
    auto in_memory = hold(loop, near.read());
    CHECK(says(loop, "a read from the other side"));
    near.abort();
    CHECK_FALSE(says(loop, "a read from the other side"));
    CHECK_THROWS_AS(loop.run_until_complete(std::move(in_memory)), pulsar::error);
  }

  TEST_CASE("who waits for a process says for which, and a read of its output that it is a pipe") {
    event_loop loop;
    const pulsar::subprocess_options piped{.standard_input = pulsar::stdio::pipe,
                                           .standard_output = pulsar::stdio::pipe};
    auto child =
        loop.run_until_complete([&] { return loop.subprocess_exec("cat", piped); });
    const auto waiting = hold(loop, child.wait());
    const auto reading = hold(loop, child.standard_output().read_line());
    const auto number = std::to_string(child.standard_output().native_handle());
    CHECK(waits_of(loop) ==
          std::vector<std::string>{"the end of process " + std::to_string(child.pid()),
                                   "a read from a pipe (descriptor " + number + ")"});
    child.standard_input().write_eof();
    loop.run_until_complete([&] { return child.wait(); });
  }

  TEST_CASE("the futures of as_completed stand below who waits for the next of them") {
    event_loop loop(clock_kind::virtual_time);
    const auto gather = [](event_loop& l) -> future<> {
      std::vector<future<int>> all;
      all.push_back(middle(l));
      all.push_back(pulsar::sleep(1s, l).then([] { return 1; }));
      auto each = pulsar::as_completed(std::move(all));
      while (auto next = co_await each.next(l)) static_cast<void>(next->outcome());
    };
    const auto running = gather(loop);
    run_for(loop, 2s);
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    CHECK(contains(tree, ", 2 s: the next of several futures\n  middle at "));
    CHECK(contains(tree, "\n    leaf at "));
    CHECK_FALSE(contains(tree, "\nmiddle"));
  }

  TEST_CASE("as_result is called what it is") {
    event_loop loop(clock_kind::virtual_time);
    const auto looking = pulsar::as_result(leaf(loop));
    run_for(loop, 2s);
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    CHECK(contains(tree, "as_result, 2 s\n  leaf at "));
  }

  TEST_CASE("a call on a socket says which, and a datagram too") {
    event_loop loop;
    auto ends = pulsar::socket_pair(SOCK_STREAM);
    pulsar::set_non_blocking(ends.first.get());
    const auto receiving = hold(loop, loop.sock_recv(ends.first.get(), 10));
    const std::string number = std::to_string(ends.first.get());
    CHECK(waits_of(loop) == std::vector<std::string>{"sock_recv on descriptor " + number});
  }

  TEST_CASE("it says how long a limit has left, of whatever it is one") {
    event_loop loop(clock_kind::virtual_time);
    pulsar::async_event event;
    const auto a = pulsar::with_timeout(event.wait(loop), 5s);
    const auto b = pulsar::wait_until(leaf(loop), at(1min));
    CHECK(contains(format_tasks(loop), "with_timeout, 0 ms, 5 s left: an event\n"));
    run_for(loop, 1200ms);
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    CHECK(contains(tree, "with_timeout, 1.2 s, 3.8 s left: an event\n"));
    CHECK(contains(tree, "with_timeout, 1.2 s, 58.8 s left\n  leaf at "));
    CHECK(find(loop.tasks(), "with_timeout")->left == 3800ms);
    run_for(loop, 4s);
    CHECK_FALSE(contains(format_tasks(loop), "an event"));
    CHECK(a.exception() != nullptr);
  }

  TEST_CASE("log fields stand where a chain gets them, and do no harm") {
    event_loop loop(clock_kind::virtual_time);
    const auto handle = [](event_loop& l) -> future<int> { co_return co_await middle(l); };
    const auto serve = [](event_loop& l, auto inner, std::string id) -> future<> {
      co_await pulsar::with_log_field("request", id, [&] { return inner(l); });
    };
    const auto running = serve(loop, handle, "17");
    run_for(loop, 2s);
    const auto tree = format_tasks(loop);
    CAPTURE(tree);
    CHECK(find(loop.tasks(), "leaf")->log_fields == "[request=17]");
    CHECK(contains(tree, " [request=17], 2 s\n    middle at "));
    CHECK(std::count(tree.begin(), tree.end(), '[') == 1);  // not again, for those below
    const auto hostile = serve(loop, handle, "\n-- process 1\x1b[2J");
    const auto text = format_tasks(loop);
    CHECK(contains(text, "[request=\\n-- process 1\\x1b[2J]"));
    CHECK(std::count(text.begin(), text.end(), '\n') == 7);
  }

  TEST_CASE("a coroutine that began while the loop was idle is as old as it is") {
    event_loop loop(clock_kind::virtual_time);
    run_for(loop, 1h);
    const auto late = leaf(loop);
    run_for(loop, 2s);
    REQUIRE(loop.tasks().size() == 1);
    CHECK(loop.tasks()[0].age == 2s);
  }

  TEST_CASE("a generator that is asked does not make others older than they are") {
    event_loop loop(clock_kind::virtual_time);
    const auto items = [](event_loop& own) -> pulsar::generator<int> {
      for (int i = 0;; ++i) {
        co_await pulsar::sleep(1h, own);
        co_yield int(i);
      }
    };
    const auto ask_twice = [](event_loop& own, pulsar::generator<int> g) -> future<> {
      co_await g.next();
      const auto young = leaf(own);
      co_await g.next();
    };
    const auto asking = ask_twice(loop, items(loop));
    loop.run_until_complete([&] { return pulsar::sleep(1h + 10ms); });
    const auto tasks = loop.tasks();
    REQUIRE(tasks.size() == 3);
    CHECK(tasks[0].age == 1h + 10ms);  // who asks
    CHECK(tasks[1].age == 10ms);
    CHECK(tasks[2].age == 10ms);  // the generator, since it was asked
  }

  TEST_CASE("a chain of a hundred thousand is printed") {
    event_loop loop(clock_kind::virtual_time);
    const auto link = [](event_loop&, future<> below) -> future<> { co_await std::move(below); };
    future<> top = leaf(loop);
    for (int i = 0; i < 100'000; ++i) top = link(loop, std::move(top));
    const auto tree = format_tasks(loop);
    CHECK(std::count(tree.begin(), tree.end(), '\n') == 100'001);
  }

  // ---- dump_tasks

  TEST_CASE("dump_tasks prints every loop of the thread") {
    event_loop one(clock_kind::virtual_time);
    event_loop two(clock_kind::virtual_time);
    const auto a = leaf(one);
    const auto b = root<int>(two);
    const scratch_file out;
    pulsar::dump_tasks(out.file);
    const auto text = out.text();
    const auto pid = std::to_string(::getpid());
    CHECK(contains(text, "-- process " + pid + ", thread "));
    CHECK(contains(text, ": 1 coroutine\nleaf at "));
    CHECK(contains(text, ": 2 coroutines\nroot at "));
  }

  TEST_CASE("dump_tasks has the loops of other threads print theirs, when they come to it") {
    const scratch_file out;
    std::atomic<event_loop*> other{nullptr};
    std::atomic<bool> go{false};
    std::thread thread([&] {
      const pulsar::log_scope name("helper");
      event_loop loop;
      const auto waits = leaf(loop);
      loop.call_soon([&] {
        other = &loop;
        while (!go) std::this_thread::yield();  // it is held up
      });
      loop.run_forever();
    });
    while (other == nullptr) std::this_thread::yield();
    pulsar::dump_tasks(out.file);
    CHECK(out.text() == "");
    go = true;
    other.load()->call_soon_threadsafe([&] { other.load()->stop(); });
    thread.join();
    CHECK(contains(out.text(), "(helper): 1 coroutine\nleaf at "));
  }

  TEST_CASE("dump_tasks may be called in a coroutine, whose line is that of its last await") {
    event_loop loop;
    const scratch_file out;
    loop.run_until_complete([](event_loop& l, std::FILE* to) -> future<> {
      co_await pulsar::sleep(1ms, l);
      pulsar::dump_tasks(to);
    }(loop, out.file));
    CHECK(contains(out.text(), ": it runs\n"));
  }

  TEST_CASE("a loop that closes before it came to a request leaves nothing behind") {
    const scratch_file out;
    asio::io_context context;
    event_loop loop(context);  // may run unbeknown to it: it is asked
    pulsar::dump_tasks(out.file);
    loop.close();
    CHECK(out.text() == "");
  }

  TEST_CASE("dump_tasks_on prints when the process receives the signal") {
    event_loop loop;
    const auto waits = leaf(loop);
    std::FILE* const before = stderr;
    const scratch_file out;
    stderr = out.file;
    pulsar::dump_tasks_on(SIGUSR1, loop);
    ::raise(SIGUSR1);
    while (out.text().empty()) loop.context().run_one();
    stderr = before;
    CHECK(contains(out.text(), ": 1 coroutine\nleaf at "));
    CHECK(loop.remove_signal_handler(SIGUSR1));
  }

  // ---- texts

  TEST_CASE("function names are as one says them") {
    CHECK(function_name("pulsar::future<int> {anonymous}::fetch(std::string)") == "fetch");
    CHECK(function_name("future<> (anonymous namespace)::fetch(int &)") == "fetch");
    CHECK(function_name("task app::w::member(int) const") == "app::w::member");
    CHECK(function_name("future<T> f(T) [with T = std::vector<int [3]>]") == "f");
    CHECK(function_name("future<T> f(T) [T = int]") == "f");
    CHECK(function_name("main()::<lambda(int)>") == "main::<lambda>");
    CHECK(function_name("auto main()::(anonymous class)::operator()(int) const") ==
          "main::<lambda>");
    CHECK(function_name("future<> job::operator()(int) &") == "job::operator()");
    CHECK(
        function_name("pulsar::future<std::tuple<A, B> > pulsar::detail::all_of(pulsar::future<A>, "
                      "pulsar::future<B>) [with Ts = {int, bool}]") == "when_all");
    CHECK(function_name("static future<> pulsar::task_group::wait(event_loop &) [$0 = void]") ==
          "task_group::join");
    CHECK(function_name("pulsar::future<> pulsar::serve()") == "serve");
    CHECK(function_name("main") == "main");
    CHECK(function_name("") == "");
  }

  TEST_CASE("ages are as one says them") {
    CHECK(age_text(0ms) == "0 ms");
    CHECK(age_text(999ms) == "999 ms");
    CHECK(age_text(1s) == "1 s");
    CHECK(age_text(59'940ms) == "59.9 s");
    CHECK(age_text(60s) == "1 min");
    CHECK(age_text(125s) == "2 min 5 s");
    CHECK(age_text(2h + 5min + 7s) == "2 h 5 min");
    CHECK(age_text(50h) == "2 d 2 h");
  }
}
