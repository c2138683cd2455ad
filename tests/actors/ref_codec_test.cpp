// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/concurrency.hpp>
#include <pulsar/actors/ref_codec.hpp>
#include <pulsar/actors/send.hpp>
#include <pulsar/core/result.hpp>

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

using pulsar::actor_ref;
using pulsar::decode;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::future;
using namespace pulsar::literals;

namespace {

class counter : public pulsar::actor<counter> {
 public:
  int add(int n) { return sum_ += n; }
  using commands = pulsar::commands<&counter::add>;

 private:
  int sum_ = 0;
};

struct team {
  actor_ref<counter> lead;
  std::vector<actor_ref<>> others;
  std::map<std::string, actor_ref<counter>> by_name;
};

static_assert(pulsar::encodable<actor_ref<>> && pulsar::decodable<actor_ref<>>);
static_assert(pulsar::encodable<actor_ref<counter>> && pulsar::decodable<actor_ref<counter>>);
static_assert(pulsar::encodable<team> && pulsar::decodable<team>);

future<actor_ref<counter>> born() {
  return pulsar::concurrency::coroutine::spawn<counter>(pulsar::spawn_options(), std::tuple<>());
}

}  // namespace

TEST_SUITE("ref_codec") {
  TEST_CASE("a reference to nobody stays one") {
    CHECK_FALSE(decode<actor_ref<>>(pulsar::encode(actor_ref<>())));
    CHECK_FALSE(decode<actor_ref<counter>>(pulsar::encode(actor_ref<counter>())));
    CHECK_FALSE(decode<actor_ref<>>(pulsar::encode(std::tuple(0, std::string("a name")))));
  }

  TEST_CASE("a reference to an actor of this process is the actor itself") {
    event_loop loop;
    loop.run_until_complete([]() -> future<> {
      auto a = co_await born();
      const auto same = decode<actor_ref<counter>>(pulsar::encode(a));
      CHECK(same == a);
      CHECK(same.name() == a.name());
      const int sum = co_await send(same, "add"_cmd, 4);
      CHECK(sum == 4);
      const auto untyped = decode<actor_ref<>>(pulsar::encode(a));
      const int more = co_await pulsar::send<int>(untyped, "add", 5);
      CHECK(more == 9);

      team t;
      t.lead = a;
      t.others = {a, {}};
      t.by_name["first"] = a;
      const auto back = decode<team>(pulsar::encode(t));
      CHECK(back.lead == a);
      CHECK(back.others.size() == 2);
      CHECK(back.others[0] == a);
      CHECK_FALSE(back.others[1]);
      CHECK(back.by_name.at("first") == a);
    });
  }

  TEST_CASE("one that has ended keeps its number and its name") {
    event_loop loop;
    loop.run_until_complete([]() -> future<> {
      auto a = co_await born();
      const auto encoded = pulsar::encode(a);
      co_await send(a, pulsar::cmd::stop);
      const auto old = decode<actor_ref<counter>>(encoded);
      CHECK(old == a);
      CHECK(old.name() == a.name());
      auto r = co_await as_result(send(old, "add"_cmd, 1));
      CHECK(r.code() == errc::actor_gone);
    });
  }

  TEST_CASE("one to another process keeps them too") {
    const std::uint64_t id = std::uint64_t{77} << 32 | 5;
    const auto far = decode<actor_ref<counter>>(pulsar::encode(std::tuple(id, std::string("far"))));
    CHECK(far.id() == id);
    CHECK(far.name() == "far");
    CHECK(decode<actor_ref<>>(pulsar::encode(far)) == far);
  }

  TEST_CASE("what is no reference is refused") {
    actor_ref<> ref;
    CHECK(pulsar::try_decode(pulsar::encode(5).readable(), ref));
    CHECK(pulsar::try_decode(pulsar::encode(std::tuple(1)).readable(), ref));
    CHECK(pulsar::try_decode(
        pulsar::encode(std::tuple(std::string("one"), std::string("two"))).readable(), ref));
    CHECK(pulsar::try_decode(pulsar::encode(std::tuple(-1, std::string("x"))).readable(), ref));
    CHECK_FALSE(ref);
  }
}
