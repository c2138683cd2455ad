// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/make.hpp>

#include <pulsar/core/accept.hpp>
#include <pulsar/core/connections.hpp>
#include <pulsar/core/datagram_transport.hpp>
#include <pulsar/core/deadline.hpp>
#include <pulsar/core/executor.hpp>
#include <pulsar/core/interop.hpp>
#include <pulsar/core/retry.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/core/task_group.hpp>
#include <pulsar/core/timeout.hpp>

#include "support/coro_test.hpp"

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

using namespace std::chrono_literals;
using pulsar::future;
using pulsar::stream;

namespace {

// Counts how often it was made and how often destroyed: a lambda that holds one is not to be freed
// twice.
using owned = std::shared_ptr<std::string>;

struct lengths {
  owned text;
  std::size_t operator()() const { return text->size(); }
};

class with_constructor {
 public:
  explicit with_constructor(owned text) : text_(std::move(text)) {}
  std::size_t operator()() const { return text_->size(); }

 private:
  owned text_;
};

template <class T>
struct holder {
  explicit holder(T t) : held(std::move(t)) {}
  T held;
};

future<> answer(stream peer, owned text) {
  peer.write(*text);
  co_await peer.close();
}

struct silent final : pulsar::protocol {
  explicit silent(owned t) : text(std::move(t)) {}
  owned text;
};

struct deaf final : pulsar::datagram_protocol {
  explicit deaf(owned t) : text(std::move(t)) {}
  owned text;
};

owned new_text() { return std::make_shared<std::string>("text"); }

}  // namespace

TEST_SUITE("make") {
  TEST_CASE("what is made in place converts to its type, and is called as it") {
    const owned text = new_text();
    auto made = pulsar::make<lengths>(text);
    CHECK(made() == 4);
    CHECK(text.use_count() == 2);
    const lengths out = std::move(made);
    CHECK(out.text == text);
    CHECK(text.use_count() == 2);
  }

  TEST_CASE("what is moved is not in its variable any more") {
    std::string name = "ann";
    auto moved = pulsar::moved(name);
    CHECK(name.empty());
    const std::string out = std::move(moved);
    CHECK(out == "ann");
    static_assert(!std::is_invocable_v<pulsar::made<std::string>&>);
    auto only = [p = std::make_unique<int>(7)](int more) { return *p + more; };
    auto callable = pulsar::moved(only);
    CHECK(callable(1) == 8);
    static_assert(!std::is_copy_constructible_v<decltype(callable)>);
    static_assert(!std::is_invocable_v<decltype(callable)&>);
    static_assert(!std::is_invocable_v<decltype(callable)&, std::string>);
  }

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12
  TEST_CASE("what g++ 12 frees twice is told from what it does not") {
    using pulsar::detail::is_freed_twice;
    using pulsar::detail::is_lambda_freed_twice;
    const owned text = new_text();
    const auto captures = [text] { return text->size(); };
    const auto takes = [text](std::function<void()>, int (*)(int)) {};
    const auto is_generic = [text](auto... x) mutable noexcept -> int { return sizeof...(x); };
    static_assert(is_lambda_freed_twice<std::remove_const_t<decltype(captures)>>());
    static_assert(is_lambda_freed_twice<decltype(captures)>());
    static_assert(is_lambda_freed_twice<decltype(takes)>());
    static_assert(is_lambda_freed_twice<decltype(is_generic)>());
    static_assert(!is_lambda_freed_twice<decltype(captures)&>());
    static_assert(!is_lambda_freed_twice<holder<std::remove_const_t<decltype(captures)>>>());
    static_assert(!is_lambda_freed_twice<pulsar::made<std::remove_const_t<decltype(captures)>>>());
    static_assert(!is_freed_twice<pulsar::made<std::remove_const_t<decltype(captures)>>>());
    static_assert(!is_lambda_freed_twice<std::function<void()>>());
    const auto refers = [&text] { return text->size(); };
    static_assert(!is_lambda_freed_twice<std::remove_const_t<decltype(refers)>>());
    static_assert(is_freed_twice<lengths>());
    static_assert(!is_freed_twice<lengths&>());
    static_assert(!is_freed_twice<with_constructor>());
    static_assert(!is_freed_twice<std::string>());
    CHECK(captures() == refers());
    takes({}, nullptr);
  }
#endif

  // ---- the functions of the core that take functions: named, moved and made

  CORO_TEST_CASE("a function that was named, given away or has a constructor is freed once") {
    const owned text = new_text();
    {
      const auto ask = [text] { return pulsar::make_ready_future(text->size()); };
      auto asks = ask;
      const auto size_1 = co_await pulsar::retry({.tries = 2}, ask);
      CHECK(size_1 == 4);
      const auto size_2 = co_await pulsar::retry({.tries = 2}, pulsar::moved(asks));
      CHECK(size_2 == 4);
      const auto never = [text](std::error_code) { return text->empty(); };
      const auto size_3 = co_await pulsar::retry({.tries = 2}, ask, never);
      CHECK(size_3 == 4);

      const auto holds = [text] { return !text->empty(); };
      co_await pulsar::wait_until(holds);
      auto given = holds;
      co_await pulsar::wait_until(pulsar::moved(given));

      const auto body = [text](pulsar::task_group&) { return pulsar::sleep(1ms); };
      co_await pulsar::with_task_group(body);
      auto other = body;
      co_await pulsar::with_task_group(pulsar::moved(other));

      const auto size_4 = co_await pulsar::with_deadline(1s, ask);
      CHECK(size_4 == 4);
      auto asked = ask;
      const auto size_5 = co_await pulsar::with_deadline(1s, pulsar::moved(asked));
      CHECK(size_5 == 4);
      const pulsar::context_value<int> number{};
      const auto size_6 = co_await pulsar::with_value(number, 3, ask);
      CHECK(size_6 == 4);
      const auto size_7 = co_await pulsar::with_log_field("a", "b", ask);
      CHECK(size_7 == 4);
    }
    CHECK(text.use_count() == 1);
  }

  CORO_TEST_CASE_REAL("so it is in a thread") {
    const owned text = new_text();
    auto& loop = pulsar::event_loop::current();
    {
      const auto length = [text] { return text->size(); };
      const auto size_8 = co_await loop.run_in_executor(length);
      CHECK(size_8 == 4);
      auto other = length;
      const auto size_9 = co_await loop.run_in_executor(pulsar::moved(other));
      CHECK(size_9 == 4);
      const auto size_10 = co_await loop.run_in_executor(pulsar::make<lengths>(text));
      CHECK(size_10 == 4);
      const auto size_11 = co_await loop.run_in_executor(with_constructor(text));
      CHECK(size_11 == 4);
      auto once = [only = std::make_unique<owned>(text)] { return (*only)->size(); };
      const auto size_12 = co_await loop.run_in_executor(pulsar::moved(once));
      CHECK(size_12 == 4);
    }
  }

  CORO_TEST_CASE_REAL("so it is with the handlers and factories of connections") {
    const owned text = new_text();
    auto& loop = pulsar::event_loop::current();
    const auto handler = [text](stream peer) { return answer(std::move(peer), text); };
    auto other = handler;
    pulsar::server one = co_await pulsar::start_server(handler, "127.0.0.1:0");
    pulsar::server two = co_await pulsar::start_server(pulsar::moved(other), "127.0.0.1:0");
    const auto factory = [text] { return std::make_shared<silent>(text); };
    auto given = factory;
    pulsar::server three = co_await loop.create_server(factory, "127.0.0.1:0");
    pulsar::server four = co_await loop.create_server(pulsar::moved(given), "127.0.0.1:0");
    const pulsar::address where = three.addresses()[0];
    auto made = co_await loop.create_connection(factory, where);
    CHECK(made.second->text == text);
    const auto deaf_one = [text] { return std::make_shared<deaf>(text); };
    const pulsar::datagram_endpoint_options local{.local = "127.0.0.1:0"};
    auto endpoint = co_await loop.create_datagram_endpoint(deaf_one, local);
    CHECK(endpoint.second->text == text);
    stream peer = co_await pulsar::connect(two.addresses()[0]);
    const std::string got = co_await peer.read_to_end();
    CHECK(got == "text");
  }
}
