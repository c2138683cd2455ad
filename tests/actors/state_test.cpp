// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/state.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string_view>

using pulsar::actor_state;

TEST_SUITE("state") {
  TEST_CASE("every state has a name of its own") {
    std::set<std::string_view> names;
    for (int i = 0; i <= static_cast<int>(actor_state::terminated); ++i) {
      names.insert(to_string(static_cast<actor_state>(i)));
    }
    CHECK(names.size() == 6);
    CHECK(names.count("") == 0);
  }

  TEST_CASE("names are what people and other programs read") {
    CHECK(to_string(actor_state::initial) == "initial");
    CHECK(to_string(actor_state::starting) == "starting");
    CHECK(to_string(actor_state::running) == "running");
    CHECK(to_string(actor_state::stopping) == "stopping");
    CHECK(to_string(actor_state::closed) == "closed");
    CHECK(to_string(actor_state::terminated) == "terminated");
  }

  TEST_CASE("states are ordered as a life is") {
    CHECK(actor_state::initial < actor_state::starting);
    CHECK(actor_state::starting < actor_state::running);
    CHECK(actor_state::running < actor_state::stopping);
    CHECK(actor_state::stopping < actor_state::closed);
    CHECK(actor_state::closed < actor_state::terminated);
  }
}
