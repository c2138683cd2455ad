// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/process.hpp>
#include <pulsar/actors/run.hpp>
#include <pulsar/core/when_all.hpp>

#include <actors/process_support.hpp>
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using process_test::contains;
using process_test::state_of;
using process_test::until;
using pulsar::actor_ref;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::named_actor;
using pulsar::spawn;
using pulsar::spawn_options;
using pulsar::concurrency::process;
using namespace pulsar::literals;
using namespace std::chrono_literals;

namespace {

struct unknown_exception : std::exception {
  const char* what() const noexcept override { return "nobody knows me"; }
};

struct entry {
  std::string name;
  std::map<std::string, std::vector<int>> numbers;
  std::optional<double> weight;
};

// Eight bytes at a time: large ones are made often.
pulsar::bytes pattern(std::size_t size, std::uint64_t seed) {
  pulsar::bytes data(size);
  for (std::size_t at = 0; at + 8 <= size; at += 8) {
    seed += 0x9e3779b97f4a7c15;
    std::memcpy(data.data() + at, &seed, 8);
  }
  return data;
}
std::uint64_t checksum_of(const pulsar::bytes& data) {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(data.data()), data.size()});
}

// While it lives no descriptor can be made.
class no_numbers_left {
 public:
  no_numbers_left() {
    ::getrlimit(RLIMIT_NOFILE, &limit_);
    const rlimit none{0, limit_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~no_numbers_left() { end(); }
  void end() const { ::setrlimit(RLIMIT_NOFILE, &limit_); }

 private:
  rlimit limit_{};
};

class clerk : public pulsar::actor<clerk> {
 public:
  int add(int a, int b) { return a + b; }
  std::string echo(std::string text) { return "clerk: " + text; }
  void note(int n) { notes_.push_back(n); }
  std::vector<int> notes() { return notes_; }
  entry change(entry e) {
    e.name += "!";
    e.numbers["more"] = {1, 2, 3};
    return e;
  }
  future<int> later(int milliseconds, int value) {
    co_await pulsar::sleep(std::chrono::milliseconds(milliseconds));
    co_return value;
  }
  std::uint64_t checksum(pulsar::bytes data) { return checksum_of(data); }
  pulsar::bytes make(std::uint64_t size, std::uint64_t seed) { return pattern(size, seed); }

  void raise(std::string what) {
    if (what == "out_of_range") throw std::out_of_range("no such account");
    if (what == "invalid_argument") throw std::invalid_argument("a negative sum");
    if (what == "system") throw std::system_error(ENOSPC, std::system_category(), "the books");
    if (what == "pulsar") throw pulsar::error(errc::would_deadlock, "after you");
    if (what == "unknown") throw unknown_exception();
    throw 42;
  }

  int pid() { return ::getpid(); }
  void die(int signal) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  void leave(int code) { ::_exit(code); }
  std::vector<int> descriptors() { return pulsar::open_descriptors(); }
  /// Asks `to` while this process has no number left for a descriptor.
  future<std::string> ask_without_numbers(actor_ref<clerk> to) {
    const no_numbers_left now;
    auto answer = co_await as_result(send(to, "pid"_cmd));
    now.end();
    co_return answer.message();
  }
  /// Sends a control packet that no worker sends.
  void say(std::uint8_t kind, std::uint64_t number, std::uint64_t count) {
    pulsar::detail::control_message m;
    m.kind = static_cast<pulsar::detail::control_kind>(kind);
    m.number = number;
    m.count = count;
    const auto packet = pulsar::encode(m);
    [[maybe_unused]] const auto sent = ::send(3, packet.data(), packet.size(), 0);
  }
  /// Sends what is no message to the arbiter.
  void babble(int descriptor) {
    const std::string garbage(64, '\xff');
    [[maybe_unused]] const auto sent = ::send(descriptor, garbage.data(), garbage.size(), 0);
  }

  // -- with others

  /// Tells `to` the numbers from `first`, then asks it: an answer proves that it had them all.
  future<int> pay(actor_ref<clerk> to, int first, int count) {
    for (int i = 0; i < count; ++i) tell(to, "note"_cmd, first + i);
    co_return co_await send(to, "add"_cmd, first, count);
  }
  future<std::string> wait_for(actor_ref<clerk> other) {
    auto answer = co_await as_result(send(other, "later"_cmd, 60'000, 0));
    co_return answer.message();
  }
  future<actor_ref<clerk>> hire() {
    auto other = co_await spawn<clerk, process>();
    co_return other;
  }
  future<int> pid_of(std::string name) {
    co_return co_await pulsar::send<int>(named_actor(name), "pid");
  }
  actor_ref<> give_back(actor_ref<> ref) { return ref; }
  std::string run_inside() {
    try {
      pulsar::run([] { return pulsar::make_ready_future(); });
    } catch (const pulsar::error& e) {
      return e.what();
    }
    return "nothing";
  }

  using commands = pulsar::commands<&clerk::add,
                                    &clerk::echo,
                                    &clerk::note,
                                    &clerk::notes,
                                    &clerk::change,
                                    &clerk::later,
                                    &clerk::checksum,
                                    &clerk::make,
                                    &clerk::raise,
                                    &clerk::pid,
                                    &clerk::die,
                                    &clerk::leave,
                                    &clerk::descriptors,
                                    &clerk::ask_without_numbers,
                                    &clerk::say,
                                    &clerk::babble,
                                    &clerk::pay,
                                    &clerk::wait_for,
                                    &clerk::hire,
                                    &clerk::pid_of,
                                    &clerk::give_back,
                                    &clerk::run_inside>;

 private:
  std::vector<int> notes_;
};

// Fails where it is told to.
class frail : public pulsar::actor<frail> {
 public:
  explicit frail(std::string where) : where_(std::move(where)) {
    if (where_ == "constructor") throw std::out_of_range("no room");
  }
  future<> on_start() {
    co_await pulsar::sleep(1ms);
    if (where_ == "on_start") throw pulsar::error(errc::would_deadlock, "the other door");
    if (where_ == "death in on_start") ::raise(SIGKILL);
  }
  void on_stop() {
    if (where_ == "on_stop") ::raise(SIGKILL);
  }
  void fail_later() {
    create_task([](frail&) -> future<> {
      co_await pulsar::sleep(1ms);
      throw std::runtime_error("a task of the actor");
    }(*this));
  }
  using commands = pulsar::commands<&frail::fail_later>;

 private:
  std::string where_;
};

class go_between : public pulsar::actor<go_between> {
 public:
  future<int> add(actor_ref<clerk> to, int a, int b) {
    co_return co_await send(to, "add"_cmd, a, b);
  }
  future<int> hire_and_add(int a, int b) {
    auto other = co_await spawn<clerk, process>();
    co_return co_await send(other, "add"_cmd, a, b);
  }
  using commands = pulsar::commands<&go_between::add, &go_between::hire_and_add>;
};

int twice(int n) { return 2 * n; }
int pid_here(pulsar::actor_base& a) { return a.name().empty() ? 0 : ::getpid(); }

std::size_t worker_count() { return pulsar::arbiter::instance()->worker_pids().size(); }

future<> no_worker_left() {
  co_await until(event_loop::current(), [] { return worker_count() == 0; });
}

std::uint64_t number_of(const actor_ref<>& ref) { return pulsar::registry::process_of(ref.id()); }

std::vector<int> sequence(int first, int count) {
  std::vector<int> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(first + i);
  return numbers;
}

// -- cases that run under pulsar::run

future<> guarded(future<> (*app)()) {
  try {
    co_await app();
  } catch (const std::exception& e) {
    FAIL_CHECK("the program failed: " << std::string(e.what()));
  } catch (...) {
    // A failed assertion, which doctest knows of.
  }
}

void run_program(future<> (*app)()) {
  const auto before = pulsar::open_descriptors();
  CHECK(pulsar::run([app] { return guarded(app); }) == 0);
  CHECK(pulsar::open_descriptors() == before);
  CHECK_FALSE(process_test::has_children());
}

// A hundred megabytes and more, which prove nothing about threads.
doctest::skip heavy() { return doctest::skip(process_test::thread_sanitizer); }

#define PROGRAM_TEST_CASE_NAMED(body, sentence)       \
  static pulsar::future<> body();                     \
  DOCTEST_TEST_CASE(sentence) { run_program(&body); } \
  static pulsar::future<> body()
#define PROGRAM_TEST_CASE(sentence) \
  PROGRAM_TEST_CASE_NAMED(DOCTEST_ANONYMOUS(program_body_), sentence)

// Collects the log while it lives.
std::string logged;  // NOLINT: a sink is a plain function
class log_capture {
 public:
  log_capture() {
    logged.clear();
    before_ =
        pulsar::log::set_sink([](pulsar::log_level, std::string_view line) { logged += line; });
  }
  log_capture(const log_capture&) = delete;
  log_capture& operator=(const log_capture&) = delete;
  ~log_capture() { pulsar::log::set_sink(before_); }

 private:
  pulsar::log_sink before_;
};

actor_ref<clerk> old;

future<> earlier_run() { old = co_await spawn<clerk, process>(); }
future<> later_run() {
  auto fresh = co_await spawn<clerk, process>();
  CHECK(fresh.id() != old.id());
  auto r = co_await as_result(send(old, "add"_cmd, 1, 2));
  CHECK(r.code() == errc::actor_gone);
  const int sum = co_await send(fresh, "add"_cmd, 1, 2);
  CHECK(sum == 3);
}

}  // namespace

TEST_SUITE("process") {
  PROGRAM_TEST_CASE("commands run in another process, and values come back as they are") {
    auto a = co_await spawn<clerk, process>();
    CHECK(a.name() == "clerk#1");
    const int pid = co_await send(a, "pid"_cmd);
    CHECK(pid != ::getpid());
    const int sum = co_await send(a, "add"_cmd, 20, 22);
    CHECK(sum == 42);
    co_await send(a, "note"_cmd, 7);
    tell(a, "note"_cmd, 8);
    const auto notes = co_await send<&clerk::notes>(a);
    CHECK(notes == std::vector<int>{7, 8});
    entry e;
    e.name = "ann";
    e.numbers["some"] = {4, 5};
    e.weight = 1.5;
    const auto changed = co_await send(a, "change"_cmd, e);
    CHECK(changed.name == "ann!");
    CHECK(changed.numbers.at("some") == std::vector<int>{4, 5});
    CHECK(changed.numbers.at("more") == std::vector<int>{1, 2, 3});
    CHECK(changed.weight == 1.5);
    const int late = co_await send(a, "later"_cmd, 5, 9);
    CHECK(late == 9);
  }

  PROGRAM_TEST_CASE("the commands of every actor work there too") {
    auto a = co_await spawn<clerk, process>(spawn_options{.name = "ann"});
    const auto pong = co_await send(a, pulsar::cmd::ping);
    CHECK(pong == "pong");
    const auto echo = co_await send(a, pulsar::cmd::echo, 42);
    CHECK(echo == 42);
    const int doubled = co_await send(a, pulsar::cmd::run, pulsar::fn<&twice>, 21);
    CHECK(doubled == 42);
    const int pid = co_await send(a, "pid"_cmd);
    const int told = co_await send(a, pulsar::cmd::run, pulsar::fn<&pid_here>);
    CHECK(told == pid);
    const auto info = co_await send(a, pulsar::cmd::info);
    CHECK(info.name == "ann");
    CHECK(info.id == a.id());
    CHECK(info.process_id == pid);
    CHECK(info.state == "running");
    // An actor may have one of the same name; each caller gets what it asks for.
    const auto own = co_await send(a, "echo"_cmd, "hello");
    CHECK(own == "clerk: hello");
    const auto by_name = co_await pulsar::send<std::string>(named_actor("ann"), "echo", "hello");
    CHECK(by_name == "clerk: hello");
    const auto built_in = co_await send(a, pulsar::cmd::echo, "hello");
    CHECK(built_in == "hello");
    const auto pong_by_name = co_await pulsar::send<std::string>(named_actor("ann"), "ping");
    CHECK(pong_by_name == "pong");
  }

  PROGRAM_TEST_CASE("large arguments and results arrive whole, and small messages overtake them") {
    auto a = co_await spawn<clerk, process>();
    const auto data = pattern(10'000'000, 1);
    std::string order;
    auto large = send(a, "checksum"_cmd, data);
    auto small = send(a, "add"_cmd, 1, 2);
    large.add_done_callback([&order] { order += "large "; });
    small.add_done_callback([&order] { order += "small "; });
    const auto sum = co_await std::move(large);
    const int three = co_await std::move(small);
    CHECK(sum == checksum_of(data));
    CHECK(three == 3);
    CHECK(order.starts_with("small"));
    const auto made = co_await send(a, "make"_cmd, std::uint64_t{10'000'001}, std::uint64_t{1});
    CHECK(made.size() == 10'000'001);
    CHECK(checksum_of(made) == checksum_of(pattern(10'000'001, 1)));
  }

  PROGRAM_TEST_CASE("large messages at the same time do not get into each other's way" * heavy()) {
    auto a = co_await spawn<clerk, process>();
    // Together they are more than a reader puts together at a time.
    constexpr std::size_t size = 24'000'000;
    const auto data = pattern(size, 7);
    const auto expected = checksum_of(data);
    std::vector<future<std::uint64_t>> sums;
    for (int i = 0; i < 3; ++i) sums.push_back(send(a, "checksum"_cmd, data));
    for (auto& sum : sums) {
      const auto got = co_await std::move(sum);
      CHECK(got == expected);
    }
    std::vector<future<pulsar::bytes>> values;
    for (int i = 0; i < 3; ++i) {
      values.push_back(send(a, "make"_cmd, std::uint64_t{size}, std::uint64_t{7}));
    }
    for (auto& value : values) {
      const auto got = co_await std::move(value);
      CHECK(checksum_of(got) == expected);
    }
  }

  PROGRAM_TEST_CASE("a message is at most 64 MiB, and a larger one harms nobody else" * heavy()) {
    auto a = co_await spawn<clerk, process>();
    const pulsar::bytes data(std::size_t{64} << 20);
    auto refused = co_await as_result(send(a, "checksum"_cmd, data));
    CHECK(refused.code() == errc::too_large);
    CHECK(contains(refused.message(), "the arguments of 'checksum' take 67108"));
    const auto most = std::uint64_t{64} << 20;
    auto result = co_await as_result(send(a, "make"_cmd, most, std::uint64_t{1}));
    CHECK(result.code() == errc::too_large);
    CHECK(contains(result.message(), "the result takes 67108"));
    const int sum = co_await send(a, "add"_cmd, 1, 2);
    CHECK(sum == 3);
  }

  PROGRAM_TEST_CASE("an exception arrives as what it was") {
    auto a = co_await spawn<clerk, process>();
    const auto thrown = [](const auto& outcome, auto& as) {
      try {
        std::rethrow_exception(outcome.exception());
      } catch (std::remove_reference_t<decltype(as)>& e) {
        return e.what() == std::string(as.what());
      } catch (...) {
        return false;
      }
    };
    auto r = co_await as_result(send(a, "raise"_cmd, "out_of_range"));
    CHECK(thrown(r, *std::make_unique<std::out_of_range>("no such account")));
    r = co_await as_result(send(a, "raise"_cmd, "invalid_argument"));
    CHECK(thrown(r, *std::make_unique<std::invalid_argument>("a negative sum")));
    r = co_await as_result(send(a, "raise"_cmd, "system"));
    CHECK(r.code() == std::error_code(ENOSPC, std::system_category()));
    CHECK(r.message() == "the books: No space left on device");
    r = co_await as_result(send(a, "raise"_cmd, "pulsar"));
    CHECK(thrown(r, *std::make_unique<pulsar::error>(errc::would_deadlock, "after you")));
    r = co_await as_result(send(a, "raise"_cmd, "unknown"));
    CHECK(r.code() == errc::command_failed);
    CHECK(contains(r.message(), "unknown_exception: nobody knows me"));
    r = co_await as_result(send(a, "raise"_cmd, "an int"));
    CHECK(r.code() == errc::command_failed);
    const int sum = co_await send(a, "add"_cmd, 1, 2);
    CHECK(sum == 3);
  }

  PROGRAM_TEST_CASE("without its type a wrong call is an error of the sender") {
    const actor_ref<> a = co_await spawn<clerk, process>();
    auto r = co_await as_result(pulsar::send<int>(a, "subtract", 3, 1));
    CHECK(r.code() == errc::unknown_command);
    CHECK(contains(r.message(), "has no command 'subtract'; it has: add echo note notes"));
    r = co_await as_result(pulsar::send<int>(a, "add", 3));
    CHECK(r.code() == errc::malformed);
    CHECK(contains(r.message(), "the arguments of 'add'"));
    r = co_await as_result(pulsar::send<int>(a, "add", 1, 2, 3));
    CHECK(r.code() == errc::malformed);
    r = co_await as_result(pulsar::send<int>(a, "add", 1, "two"));
    CHECK(r.code() == errc::malformed);
    auto text = co_await as_result(pulsar::send<std::string>(a, "add", 1, 2));
    CHECK(text.code() == errc::malformed);
    CHECK(contains(text.message(), "the result of 'add'"));
    r = co_await as_result(pulsar::send<int>(a, std::string(10'000, 'x')));
    CHECK(r.code() == errc::unknown_command);
    const int sum = co_await pulsar::send<int>(a, "add", 1, 2);
    CHECK(sum == 3);
  }

  // -- the end of a process

  PROGRAM_TEST_CASE("when a process is killed its pending sends fail at once and say so") {
    auto a = co_await spawn<clerk, process>();
    auto other = co_await spawn<clerk, process>();
    const int pid = co_await send(a, "pid"_cmd);
    std::vector<future<int>> pending;
    for (int i = 0; i < 10; ++i) pending.push_back(send(a, "later"_cmd, 60'000, i));
    auto unharmed = send(other, "later"_cmd, 300, 5);
    auto& loop = event_loop::current();
    const auto start = loop.time();
    ::kill(pid, SIGKILL);
    for (auto& f : pending) {
      auto r = co_await as_result(std::move(f));
      CHECK(r.code() == errc::actor_gone);
      CHECK(contains(r.message(),
                     "process " + std::to_string(number_of(a)) + " is gone: signal 9 (Killed)"));
    }
    // A quarter of a second is what it waits for the reason, which is there much sooner.
    CHECK(loop.time() - start < 250ms);
    auto late = co_await as_result(send(a, "add"_cmd, 1, 2));
    CHECK(late.code() == errc::actor_gone);
    CHECK(contains(late.message(), "signal 9 (Killed)"));
    const int five = co_await std::move(unharmed);
    CHECK(five == 5);
  }

  PROGRAM_TEST_CASE("answers that were sent before the end are delivered") {
    auto a = co_await spawn<clerk, process>();
    for (int round = 0; round < 3; ++round) {
      auto b = co_await spawn<clerk, process>();
      // Larger than what one read takes, and unread while this loop is busy.
      auto large = send(b, "make"_cmd, std::uint64_t{100'000}, std::uint64_t{1});
      auto small = send(b, "add"_cmd, 1, 2);
      const int pid = co_await send(b, "pid"_cmd);
      auto dying = send(b, "die"_cmd, SIGKILL);
      co_await until(event_loop::current(),
                     [&] { return state_of(pid) == '\0' || state_of(pid) == 'Z'; });
      const auto made = co_await std::move(large);
      CHECK(made.size() == 100'000);
      const int three = co_await std::move(small);
      CHECK(three == 3);
      auto died = co_await as_result(std::move(dying));
      CHECK(died.code() == errc::actor_gone);
    }
    const int sum = co_await send(a, "add"_cmd, 1, 2);
    CHECK(sum == 3);
  }

  PROGRAM_TEST_CASE("the sentence names the signal or the exit code") {
    auto a = co_await spawn<clerk, process>();
    auto aborted = co_await as_result(send(a, "die"_cmd, SIGABRT));
    CHECK(aborted.code() == errc::actor_gone);
    CHECK(contains(aborted.message(), "signal 6 (Aborted)"));
    auto b = co_await spawn<clerk, process>();
    auto left = co_await as_result(send(b, "leave"_cmd, 5));
    CHECK(left.code() == errc::actor_gone);
    CHECK(contains(left.message(), "exit code 5"));
    // A tell has nobody to fail to; it is logged.
    const log_capture log;
    tell(b, "note"_cmd, 1);
    CHECK(contains(logged, "a tell of 'note' failed: process "));
    CHECK(contains(logged, "exit code 5"));
  }

  PROGRAM_TEST_CASE("a stopped process costs a bounded amount of memory, and goes on" * heavy()) {
    auto a = co_await spawn<clerk, process>();
    const int pid = co_await send(a, "pid"_cmd);
    ::kill(pid, SIGSTOP);
    co_await until(event_loop::current(), [pid] { return state_of(pid) == 'T'; });
    auto late = co_await as_result(with_timeout(send(a, "add"_cmd, 1, 2), 50ms));
    CHECK(late.code() == errc::timed_out);

    const auto data = pattern(1'000'000, 3);
    const auto expected = checksum_of(data);
    std::vector<future<std::uint64_t>> pending;
    std::optional<std::string> refusal;
    for (int i = 0; i < 500 && !refusal; ++i) {
      auto f = send(a, "checksum"_cmd, data);
      if (f.done()) {
        auto r = co_await as_result(std::move(f));
        CHECK(r.code() == errc::mailbox_full);
        refusal = r.message();
      } else {
        pending.push_back(std::move(f));
      }
    }
    REQUIRE(refusal);
    CHECK(contains(*refusal, "has not read"));
    CHECK(pending.size() >= 60);
    CHECK(pending.size() <= 135);
    ::kill(pid, SIGCONT);
    for (auto& f : pending) {
      const auto sum = co_await std::move(f);
      CHECK(sum == expected);
    }
  }

  PROGRAM_TEST_CASE("a worker that does not stop is killed after its grace") {
    auto a = co_await spawn<clerk, process>();
    const int pid = co_await send(a, "pid"_cmd);
    ::kill(pid, SIGSTOP);
    co_await until(event_loop::current(), [pid] { return state_of(pid) == 'T'; });
    auto pending = send(a, "add"_cmd, 1, 2);
    co_await pulsar::arbiter::instance()->stop_worker(number_of(a), 0ms);
    CHECK(worker_count() == 0);
    auto r = co_await as_result(std::move(pending));
    CHECK(contains(r.message(), "signal 9 (Killed)"));
  }

  PROGRAM_TEST_CASE("a worker drains on TERM and ignores the terminal") {
    auto a = co_await spawn<clerk, process>();
    const int pid = co_await send(a, "pid"_cmd);
    ::kill(pid, SIGINT);
    ::kill(pid, SIGHUP);
    const int sum = co_await send(a, "add"_cmd, 1, 2);
    CHECK(sum == 3);
    auto under_way = send(a, "later"_cmd, 100, 6);
    auto started = co_await send(a, "add"_cmd, 1, 2);
    CHECK(started == 3);
    ::kill(pid, SIGTERM);
    const int six = co_await std::move(under_way);
    CHECK(six == 6);
    co_await no_worker_left();
    auto late = co_await as_result(send(a, "add"_cmd, 1, 2));
    CHECK(contains(late.message(), "exit code 0"));
  }

  PROGRAM_TEST_CASE("stopping an actor ends its process") {
    auto a = co_await spawn<clerk, process>();
    co_await send(a, pulsar::cmd::stop);
    co_await no_worker_left();
    auto late = co_await as_result(send(a, "add"_cmd, 1, 2));
    CHECK(late.code() == errc::actor_gone);
    CHECK(contains(late.message(), "exit code 0"));
  }

  PROGRAM_TEST_CASE("a crash in on_stop is seen by who asked for the stop") {
    auto a = co_await spawn<frail, process>("on_stop");
    auto stopped = co_await as_result(send(a, pulsar::cmd::stop));
    CHECK(stopped.code() == errc::actor_gone);
    CHECK(contains(stopped.message(), "signal 9 (Killed)"));
    CHECK(worker_count() == 0);
  }

  PROGRAM_TEST_CASE("an actor that fails ends its process with exit code 1") {
    auto a = co_await spawn<frail, process>("nowhere");
    co_await send(a, "fail_later"_cmd);
    co_await no_worker_left();
    auto late = co_await as_result(send(a, pulsar::cmd::ping));
    CHECK(contains(late.message(), "exit code 1"));
  }

  // -- birth

  PROGRAM_TEST_CASE("a birth that fails tells why, as what it was, and leaves no process") {
    auto r = co_await as_result(spawn<frail, process>("constructor"));
    CHECK(worker_count() == 0);
    try {
      r.value();
      FAIL_CHECK("it was born");
    } catch (const std::out_of_range& e) {
      CHECK(std::string_view(e.what()) == "no room");
    }
    r = co_await as_result(spawn<frail, process>("on_start"));
    CHECK(worker_count() == 0);
    CHECK(r.code() == errc::would_deadlock);
    CHECK(contains(r.message(), "the other door"));
    r = co_await as_result(spawn<frail, process>("death in on_start"));
    CHECK(worker_count() == 0);
    CHECK(r.code() == errc::actor_gone);
    CHECK(contains(r.message(), "signal 9 (Killed)"));
  }

  PROGRAM_TEST_CASE("a process actor may spawn others, and a thread may too") {
    auto a = co_await spawn<clerk, process>();
    const auto b = co_await send(a, "hire"_cmd);
    CHECK(number_of(b) != number_of(a));
    const int first = co_await send(a, "pid"_cmd);
    const int second = co_await send(b, "pid"_cmd);
    CHECK(first != second);
    CHECK(second != ::getpid());
    auto t = co_await spawn<go_between, pulsar::concurrency::thread>();
    const int nine = co_await send(t, "hire_and_add"_cmd, 4, 5);
    CHECK(nine == 9);
    const int seven = co_await send(t, "add"_cmd, b, 3, 4);
    CHECK(seven == 7);
  }

  PROGRAM_TEST_CASE("run inside a worker is an error") {
    auto a = co_await spawn<clerk, process>();
    const auto text = co_await send(a, "run_inside"_cmd);
    CHECK(contains(text, "pulsar::run was called inside a worker process: spawn an actor instead"));
  }

  PROGRAM_TEST_CASE("a worker has the descriptors that it needs and no other") {
    auto [mine, stranger] = pulsar::socket_pair(SOCK_STREAM);
    const int inheritable = ::dup(stranger.get());  // not close-on-exec
    auto a = co_await spawn<clerk, process>();
    ::close(inheritable);
    const auto open = co_await send(a, "descriptors"_cmd);
    // 0 1 2, control, stream; Asio's two of epoll and its timer; the loop's; the two of its signals
    CHECK(open.size() == 11);
    CHECK(open.back() == 10);
  }

  // -- actors of several processes

  PROGRAM_TEST_CASE("actors of two processes talk directly, in order") {
    auto a = co_await spawn<clerk, process>();
    auto b = co_await spawn<clerk, process>();
    const int answer = co_await send(a, "pay"_cmd, b, 100, 500);
    CHECK(answer == 600);
    const auto notes = co_await send(b, "notes"_cmd);
    CHECK(notes == sequence(100, 500));
  }

  PROGRAM_TEST_CASE("processes that all ask for each other at once get one line each") {
    std::vector<actor_ref<clerk>> all;
    for (int i = 0; i < 4; ++i) {
      auto one = co_await spawn<clerk, process>();
      all.push_back(one);
    }
    const auto before = co_await send(all[0], "descriptors"_cmd);
    std::vector<future<int>> pending;
    for (std::size_t i = 0; i < all.size(); ++i) {
      for (std::size_t j = 0; j < all.size(); ++j) {
        if (i == j) continue;
        pending.push_back(send(all[i], "pay"_cmd, all[j], static_cast<int>(1000 * i), 50));
      }
    }
    for (auto& f : pending) co_await std::move(f);
    for (std::size_t j = 0; j < all.size(); ++j) {
      const auto notes = co_await send(all[j], "notes"_cmd);
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (i == j) continue;
        std::vector<int> from;
        for (const int n : notes) {
          if (n / 1000 == static_cast<int>(i)) from.push_back(n);
        }
        CHECK(from == sequence(static_cast<int>(1000 * i), 50));
      }
      const auto open = co_await send(all[j], "descriptors"_cmd);
      CHECK(open.size() == before.size() + all.size() - 1);
    }
  }

  PROGRAM_TEST_CASE("who waits for an actor of another worker learns how that ended") {
    auto a = co_await spawn<clerk, process>();
    auto b = co_await spawn<clerk, process>();
    auto waiting = send(a, "wait_for"_cmd, b);
    for (std::uint64_t pending = 0; pending == 0;) {
      const auto info = co_await send(b, pulsar::cmd::info);
      pending = info.pending > 1 ? info.pending : 0;  // this one, and the one that waits
    }
    const int pid = co_await send(b, "pid"_cmd);
    ::kill(pid, SIGKILL);
    const auto text = co_await std::move(waiting);
    CHECK(contains(text, "process " + std::to_string(number_of(b)) + " is gone: signal 9"));
    // And whoever asks after it has ended.
    const auto again = co_await send(a, "wait_for"_cmd, b);
    CHECK(contains(again, "signal 9 (Killed)"));
  }

  PROGRAM_TEST_CASE("a worker that was started after a process had ended learns that it has") {
    auto b = co_await spawn<clerk, process>();
    co_await send(b, pulsar::cmd::stop);
    co_await no_worker_left();
    auto a = co_await spawn<clerk, process>();
    const auto text = co_await send(a, "wait_for"_cmd, b);
    CHECK(contains(text, "is gone: it has ended"));
  }

  PROGRAM_TEST_CASE("references travel, and mean the same actor everywhere") {
    auto a = co_await spawn<clerk, process>(spawn_options{.name = "ann"});
    auto local =
        co_await spawn<clerk, pulsar::concurrency::coroutine>(spawn_options{.name = "bob"});
    auto threaded = co_await spawn<clerk, pulsar::concurrency::thread>();
    for (const actor_ref<>& one : std::array<actor_ref<>, 4>{a, local, threaded, {}}) {
      const auto back = co_await send(a, "give_back"_cmd, one);
      CHECK(back == one);
      CHECK(back.name() == one.name());
    }
    const int by_loop = co_await send(a, "pay"_cmd, local, 1, 3);
    CHECK(by_loop == 4);
    const auto notes = co_await send(local, "notes"_cmd);
    CHECK(notes == std::vector<int>{1, 2, 3});
    const int by_thread = co_await send(a, "pay"_cmd, threaded, 5, 2);
    CHECK(by_thread == 7);
    const int to_itself = co_await send(a, "pay"_cmd, a, 9, 1);
    CHECK(to_itself == 10);
    co_await send(local, pulsar::cmd::stop);
    auto gone = co_await send(a, "wait_for"_cmd, local);
    CHECK(contains(gone, "the actor is gone"));
    // One that has ended comes back as itself, not as nobody.
    const auto still = co_await send(a, "give_back"_cmd, local);
    CHECK(still.name() == "bob");
    auto ended = co_await as_result(pulsar::send<int>(still, "add", 1, 2));
    CHECK(ended.code() == errc::actor_gone);
  }

  // -- names

  PROGRAM_TEST_CASE("an actor is found by its name from every process") {
    auto a = co_await spawn<clerk, process>(spawn_options{.name = "ann"});
    auto b = co_await spawn<clerk, process>();
    auto local = co_await spawn<clerk, pulsar::concurrency::thread>(spawn_options{.name = "carol"});
    const int pid = co_await send(a, "pid"_cmd);
    const int from_here = co_await pulsar::send<int>(named_actor("ann"), "pid");
    CHECK(from_here == pid);
    const int from_worker = co_await send(b, "pid_of"_cmd, "ann");
    CHECK(from_worker == pid);
    const int from_itself = co_await send(a, "pid_of"_cmd, "ann");
    CHECK(from_itself == pid);
    const int of_thread = co_await send(b, "pid_of"_cmd, "carol");
    CHECK(of_thread == ::getpid());
    auto unknown = co_await as_result(pulsar::send<int>(named_actor("zoe"), "pid"));
    CHECK(unknown.code() == errc::unknown_actor);
    CHECK(contains(unknown.message(), "no actor is named 'zoe'"));
    unknown = co_await as_result(send(b, "pid_of"_cmd, "zoe"));
    CHECK(unknown.code() == errc::unknown_actor);
  }

  PROGRAM_TEST_CASE("a name belongs to one living actor of the program") {
    // Both at once: one gets it.
    auto first = spawn<clerk, process>(spawn_options{.name = "ann"});
    auto second = spawn<clerk, process>(spawn_options{.name = "ann"});
    auto a = co_await std::move(first);
    auto taken = co_await as_result(std::move(second));
    CHECK(taken.code() == errc::name_taken);
    CHECK(contains(taken.message(), "an actor named 'ann' is alive already"));
    CHECK(worker_count() == 1);
    taken = co_await as_result(
        spawn<clerk, pulsar::concurrency::coroutine>(spawn_options{.name = "ann"}));
    CHECK(taken.code() == errc::name_taken);
    taken =
        co_await as_result(spawn<clerk, pulsar::concurrency::thread>(spawn_options{.name = "ann"}));
    CHECK(taken.code() == errc::name_taken);
    auto local =
        co_await spawn<clerk, pulsar::concurrency::coroutine>(spawn_options{.name = "bob"});
    taken = co_await as_result(spawn<clerk, process>(spawn_options{.name = "bob"}));
    CHECK(taken.code() == errc::name_taken);
    taken = co_await as_result(spawn<clerk, process>(spawn_options{.name = "arbiter"}));
    CHECK(taken.code() == errc::name_taken);
    CHECK(worker_count() == 1);
  }

  PROGRAM_TEST_CASE("a name is free again when its actor has ended, however it did") {
    for (int i = 0; i < 3; ++i) {
      auto a = co_await spawn<clerk, process>(spawn_options{.name = "ann"});
      co_await send(a, pulsar::cmd::stop);
      auto b = co_await spawn<clerk, process>(spawn_options{.name = "ann"});
      auto died = co_await as_result(send(b, "die"_cmd, SIGKILL));
      CHECK(died.code() == errc::actor_gone);
    }
    auto failed =
        co_await as_result(spawn<frail, process>(spawn_options{.name = "ann"}, "on_start"));
    CHECK(failed.code() == errc::would_deadlock);
    auto local =
        co_await spawn<clerk, pulsar::concurrency::coroutine>(spawn_options{.name = "ann"});
    const auto here = co_await pulsar::send<int>(named_actor("ann"), "pid");
    CHECK(here == ::getpid());
  }

  // -- what is not as it should be

  PROGRAM_TEST_CASE("a line that brings no message is closed with a reason, and replaced") {
    auto a = co_await spawn<clerk, process>();
    const int pid = co_await send(a, "pid"_cmd);
    auto under_way = send(a, "later"_cmd, 60'000, 1);
    {
      const log_capture log;
      auto said = co_await as_result(send(a, "babble"_cmd, 4));  // the stream
      CHECK(said.code() == errc::actor_gone);
      CHECK(contains(said.message(), "the link to process"));
      CHECK(contains(said.message(), "has broken: a frame of "));
      CHECK(contains(logged, "is closed, for what came is no message: a frame of "));
    }
    auto lost = co_await as_result(std::move(under_way));
    CHECK(lost.code() == errc::actor_gone);
    CHECK(worker_count() == 1);
    for (int i = 0; i < 3; ++i) {
      const int sum = co_await send(a, "add"_cmd, i, 2);
      CHECK(sum == i + 2);
    }
    ::kill(pid, SIGKILL);  // one of its commands would take a minute
  }

  PROGRAM_TEST_CASE("a worker that sends no control packet but garbage is killed") {
    auto a = co_await spawn<clerk, process>();
    auto b = co_await spawn<clerk, process>();
    const log_capture log;
    auto pending = send(a, "later"_cmd, 60'000, 1);
    tell(a, "babble"_cmd, 3);  // the control socket
    auto r = co_await as_result(std::move(pending));
    CHECK(r.code() == errc::actor_gone);
    CHECK(contains(r.message(), "signal 9 (Killed)"));
    CHECK(contains(logged, "a control line is closed, for what came is no packet"));
    CHECK(contains(logged, "cannot be led any more and is killed"));
    const int sum = co_await send(b, "add"_cmd, 1, 2);
    CHECK(sum == 3);
  }

  // UBSan needs a descriptor to look at a type, here and below.
  PROGRAM_TEST_CASE("a worker without numbers for descriptors is not reached, and lives on" *
                    doctest::skip(process_test::address_sanitizer)) {
    auto a = co_await spawn<clerk, process>();
    auto b = co_await spawn<clerk, process>();
    const log_capture log;
    const auto said = co_await send(a, "ask_without_numbers"_cmd, b);
    CHECK(contains(said, "there is no line to process"));
    CHECK(contains(said, "Too many open files"));
    const int sum = co_await send(a, "pay"_cmd, b, 1, 2);
    CHECK(sum == 3);
    CHECK(worker_count() == 2);
    CHECK(logged == "");
  }

  PROGRAM_TEST_CASE("an arbiter without numbers for descriptors refuses, and harms no worker" *
                    doctest::skip(process_test::address_sanitizer)) {
    auto a = co_await spawn<clerk, process>();
    auto b = co_await spawn<clerk, process>();
    const log_capture log;
    {
      const no_numbers_left now;
      auto paid = co_await as_result(send(a, "pay"_cmd, b, 1, 2));
      now.end();
      CHECK(paid.code() == std::errc::too_many_files_open);
      CHECK(contains(paid.message(), "there is no line to process"));
    }
    const int sum = co_await send(a, "pay"_cmd, b, 1, 2);
    CHECK(sum == 3);
    CHECK(worker_count() == 2);
    CHECK(contains(logged, "no line from process"));
  }

  PROGRAM_TEST_CASE("a worker that says what no worker says is killed") {
    struct packet {
      std::uint8_t kind;
      std::uint64_t number;
      std::uint64_t count;
      const char* why;
    };
    for (const packet p : {packet{99, 0, 0, "sent a control packet of unknown kind"},
                           packet{1, 1, 0, "greets a second time"},
                           packet{4, 1, 99, "claims lines that it was not given"}}) {
      CAPTURE(p.why);
      auto a = co_await spawn<clerk, process>();
      const log_capture log;
      auto pending = send(a, "later"_cmd, 60'000, 1);
      tell(a, "say"_cmd, p.kind, p.number, p.count);
      auto r = co_await as_result(std::move(pending));
      CHECK(contains(r.message(), "signal 9 (Killed)"));
      CHECK(contains(logged, p.why));
    }
  }

  TEST_CASE("a reference from an earlier run fits no actor of a later one") {
    run_program(&earlier_run);
    run_program(&later_run);
    event_loop loop;
    auto r = loop.run_until_complete([] { return as_result(send(old, "add"_cmd, 1, 2)); });
    CHECK(r.code() == errc::actor_gone);
    CHECK(contains(r.message(), "pulsar::run has ended"));
    old = {};
  }

  TEST_CASE("without pulsar::run no process is started, and the sentence says what to do") {
    event_loop loop;
    try {
      loop.run_until_complete([] { return spawn<clerk, process>(); });
      FAIL("a process was started");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == errc::no_arbiter);
      CHECK(contains(e.what(),
                     "spawning a process needs pulsar::run: call it in main, or spawn "
                     "with concurrency::thread"));
    }
    CHECK_FALSE(process_test::has_children());
  }
}
