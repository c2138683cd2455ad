// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/spawn.hpp>
#include <pulsar/core/result.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>

using pulsar::concurrency_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using pulsar::spawn;
using pulsar::spawn_options;
using namespace pulsar::literals;
using namespace std::chrono_literals;

namespace {

class greeter : public pulsar::actor<greeter> {
 public:
  explicit greeter(std::string greeting = "hello", int times = 1)
      : greeting_(std::move(greeting)), times_(times) {}
  std::string greet(std::string name) {
    std::string text;
    for (int i = 0; i < times_; ++i) text += greeting_ + " " + name + " ";
    return text;
  }
  bool here(int thread) { return thread == ::gettid(); }
  using commands = pulsar::commands<&greeter::greet, &greeter::here>;

 private:
  std::string greeting_;
  int times_;
};

// Its argument cannot travel, so only the local policies will do.
class keeper : public pulsar::actor<keeper> {
 public:
  explicit keeper(std::shared_ptr<int> kept) : kept_(std::move(kept)) {}
  int value() { return *kept_; }
  using commands = pulsar::commands<&keeper::value>;

 private:
  std::shared_ptr<int> kept_;
};

// A policy of a user: counts, then does as another one.
struct counted {
  static constexpr std::string_view name = "counted";
  static constexpr bool remote = false;
  inline static int births = 0;

  template <class A, class... Args>
  static future<pulsar::actor_ref<A>> spawn(spawn_options options, std::tuple<Args...> args) {
    ++births;
    return pulsar::concurrency::coroutine::spawn<A>(options, std::move(args));
  }
};

// Back to what it was when the test ends.
struct default_scope {
  concurrency_kind before = pulsar::default_concurrency();
  ~default_scope() { pulsar::set_default_concurrency(before); }
};

static_assert(std::is_same_v<pulsar::detail::spawned_argument<const char (&)[6]>, std::string>);
static_assert(std::is_same_v<pulsar::detail::spawned_argument<const char*>, std::string>);
static_assert(std::is_same_v<pulsar::detail::spawned_argument<const std::string&>, std::string>);
static_assert(std::is_same_v<pulsar::detail::spawned_argument<int&>, int>);

template <class F>
void in_loop(F body) {
  event_loop loop;
  loop.run_until_complete([&] { return body(loop); });
}

}  // namespace

TEST_SUITE("spawn") {
  TEST_CASE("policies have names, and are found by them") {
    for (const auto kind :
         {concurrency_kind::process, concurrency_kind::thread, concurrency_kind::coroutine}) {
      CHECK(pulsar::parse_concurrency(to_string(kind)) == kind);
    }
    CHECK(to_string(concurrency_kind::process) == "process");
    CHECK_FALSE(pulsar::parse_concurrency("Process"));
    CHECK_FALSE(pulsar::parse_concurrency(""));
    CHECK_FALSE(pulsar::parse_concurrency("thread "));
  }

  TEST_CASE("without a policy the program's default decides, which is the process") {
    const default_scope scope;
    CHECK(pulsar::default_concurrency() == concurrency_kind::process);
    in_loop([](event_loop&) -> future<> {
      try {
        auto a = co_await spawn<greeter>();
        FAIL_CHECK("there is no arbiter");
      } catch (const pulsar::error& e) {
        CHECK(e.code() == errc::no_arbiter);
      }
      for (const bool same : {true, false}) {
        pulsar::set_default_concurrency(same ? concurrency_kind::coroutine
                                             : concurrency_kind::thread);
        auto a = co_await spawn<greeter>();
        const bool here = co_await send(a, "here"_cmd, static_cast<int>(::gettid()));
        CHECK(here == same);
        co_await send(a, pulsar::cmd::stop);
      }
    });
  }

  TEST_CASE("the constructor's arguments are kept by value, with or without options") {
    in_loop([](event_loop&) -> future<> {
      using pulsar::concurrency::coroutine;
      using pulsar::concurrency::thread;
      std::string greeting = "good day";
      auto pending = spawn<greeter, thread>(spawn_options{.name = "anton"}, greeting, 2);
      greeting = "gone";
      auto a = co_await std::move(pending);
      CHECK(a.name() == "anton");
      const auto text = co_await send(a, "greet"_cmd, "ann");
      CHECK(text == "good day ann good day ann ");
      auto b = co_await spawn<greeter, coroutine>("hi");
      const auto short_text = co_await send(b, "greet"_cmd, "bob");
      CHECK(short_text == "hi bob ");
      auto c = co_await spawn<greeter, coroutine>();
      CHECK(c.name().starts_with("greeter#"));
      auto kept = std::make_shared<int>(5);
      auto d = co_await spawn<keeper, thread>(kept);
      const int five = co_await send(d, "value"_cmd);
      CHECK(five == 5);
      co_await send(a, pulsar::cmd::stop);
      co_await send(d, pulsar::cmd::stop);
    });
  }

  TEST_CASE("a program may have policies of its own") {
    static_assert(pulsar::concurrency_policy<counted>);
    static_assert(!pulsar::concurrency_policy<greeter>);
    in_loop([](event_loop&) -> future<> {
      auto a = co_await spawn<greeter, counted>("hi");
      const auto text = co_await send(a, "greet"_cmd, "ann");
      CHECK(text == "hi ann ");
      CHECK(counted::births == 1);
    });
  }

  TEST_CASE("where there is no loop nothing is spawned") {
    bool refused = false;
    std::thread([&] {
      try {
        spawn<greeter, pulsar::concurrency::coroutine>().detach();
      } catch (const pulsar::error& e) {
        refused = e.code() == errc::no_loop;
      }
    }).join();
    CHECK(refused);
  }
}
