// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/error.hpp>

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

using pulsar::errc;

namespace {

constexpr std::string_view no_code = "unknown pulsar error";

/// The first value that is no code. That each enumerator has a message is the compiler's business:
/// it warns of a switch that lacks one.
int past_the_last() {
  int value = 1;
  while (pulsar::error_category().message(value) != no_code) ++value;
  return value;
}

/// The conditions of the standard library that a code of ours also equals.
const std::map<errc, std::errc> standard_conditions = {
    {errc::cancelled, std::errc::operation_canceled},
    {errc::timed_out, std::errc::timed_out},
    {errc::malformed, std::errc::bad_message},
    {errc::too_large, std::errc::message_size},
};

}  // namespace

TEST_SUITE("error") {
  TEST_CASE("every code has a message of its own") {
    std::set<std::string> messages;
    for (int value = 1; value < past_the_last(); ++value) {
      const std::string message = make_error_code(static_cast<errc>(value)).message();
      CAPTURE(value);
      CHECK(!message.empty());
      CHECK(messages.insert(message).second);
    }
    CHECK(messages.contains(make_error_code(errc::already_called).message()));
    CHECK(messages.contains(make_error_code(errc::command_failed).message()));
  }

  TEST_CASE("a value that is no code says so") {
    CHECK(pulsar::error_category().message(0) == no_code);
    CHECK(pulsar::error_category().message(-1) == no_code);
    // The codes have no gap, so none lies behind the end that the other tests stop at.
    const int end = past_the_last();
    for (int value = end; value < end + 100; ++value) {
      CHECK(pulsar::error_category().message(value) == no_code);
    }
  }

  TEST_CASE("the category is called pulsar and exists once") {
    CHECK(std::string_view(pulsar::error_category().name()) == "pulsar");
    CHECK(make_error_code(errc::cancelled).category() == pulsar::error_category());
  }

  TEST_CASE("a code equals the standard condition it corresponds to, and no other") {
    for (int value = 1; value < past_the_last(); ++value) {
      const auto code = make_error_code(static_cast<errc>(value));
      CAPTURE(code.message());
      for (const auto& [owner, condition] : standard_conditions) {
        CHECK((code == condition) == (owner == static_cast<errc>(value)));
      }
      if (!standard_conditions.contains(static_cast<errc>(value))) {
        CHECK(code.default_error_condition().category() == pulsar::error_category());
        CHECK(code.default_error_condition().value() == value);
      }
    }
  }

  TEST_CASE("an errc converts to an error_code by itself") {
    const std::error_code code = errc::mailbox_full;
    CHECK(code == errc::mailbox_full);
    CHECK(code != errc::actor_gone);
    CHECK(static_cast<bool>(code));
  }

  TEST_CASE("an error carries its sentence and the text of its code") {
    const pulsar::error plain(errc::no_loop);
    CHECK(plain.code() == errc::no_loop);
    CHECK(std::string(plain.what()) == "no event loop");

    const pulsar::error told(errc::no_loop, "call it from a coroutine");
    CHECK(std::string(told.what()) == "call it from a coroutine: no event loop");
  }

  TEST_CASE("an error is caught as a system_error") {
    try {
      throw pulsar::error(errc::timed_out, "deposit");
    } catch (const std::system_error& e) {
      CHECK(e.code() == std::errc::timed_out);
      return;
    }
    FAIL("not caught");
  }

  TEST_CASE("a command_error names the foreign type beside its text") {
    const pulsar::command_error e("app::overdrawn", "by 250");
    CHECK(e.code() == errc::command_failed);
    CHECK(e.type() == "app::overdrawn");
    CHECK(std::string(e.what()) == "app::overdrawn: by 250: the command failed");
  }
}
