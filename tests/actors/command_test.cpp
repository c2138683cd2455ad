// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/command.hpp>

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::string_view_literals;
using namespace pulsar::literals;

namespace accounts {

struct ledger {
  long deposit(std::string account, long cents);
  pulsar::future<long> audit(const std::string& account) const;
  void keep(std::unique_ptr<int>&& what) noexcept;
  int count() const& noexcept;
  std::string& text() &;
  using commands = pulsar::commands<&ledger::deposit, pulsar::named<"check", &ledger::audit>,
                                    &ledger::keep, &ledger::count, &ledger::text>;
};

}  // namespace accounts

namespace {

using accounts::ledger;

template <class List, std::size_t... I>
std::vector<std::string_view> names_of(std::index_sequence<I...>) {
  return {List::template at<I>::name...};
}
template <class A>
std::vector<std::string_view> names() {
  return names_of<typename A::commands>(std::make_index_sequence<A::commands::size>());
}

template <class A, std::size_t I>
using traits = typename A::commands::template at<I>::traits;

struct unnamed_namespace {
  int here(int n) { return n; }
  using commands = pulsar::commands<&unnamed_namespace::here>;
};

struct overloaded {
  int put(int n) { return n; }
  std::string put(std::string text) { return text; }
  template <class T>
  T twice(T value) {
    return value + value;
  }
  using commands =
      pulsar::commands<pulsar::named<"put_number", static_cast<int (overloaded::*)(int)>(
                                                       &overloaded::put)>,
                       pulsar::named<"put_text", static_cast<std::string (overloaded::*)(
                                                     std::string)>(&overloaded::put)>,
                       pulsar::named<"twice_int", &overloaded::twice<int>>,
                       pulsar::named<"twice_text", &overloaded::twice<std::string>>>;
};

template <class T>
struct templated {
  int size(T) { return sizeof(T); }
  using commands = pulsar::commands<&templated::size>;
};

struct savings : ledger {
  long interest(int months) { return months; }
  using commands = pulsar::commands<pulsar::commands_of<ledger>, &savings::interest>;
};

struct shares {
  long dividend() { return 1; }
  using commands = pulsar::commands<&shares::dividend>;
};
struct portfolio : savings, shares {
  void rebalance() {}
  using commands =
      pulsar::commands<pulsar::commands_of<shares>, &portfolio::rebalance,
                       pulsar::commands_of<savings>, pulsar::named<"put", &portfolio::deposit>>;
};

struct silent {
  using commands = pulsar::commands<>;
};

// What `call` hands on to the function.
struct recorder {
  std::string log;
  int by_value(std::string text, int n) {
    log += text;
    return n;
  }
  const std::string* by_reference(const std::string& text) { return &text; }
  int by_rvalue(std::unique_ptr<int>&& p) {
    const auto mine = std::move(p);
    return *mine;
  }
};
struct derived_recorder : silent, recorder {
  using commands = pulsar::commands<&derived_recorder::by_value, &derived_recorder::by_reference,
                                    &derived_recorder::by_rvalue>;
};

}  // namespace

TEST_SUITE("command") {
  TEST_CASE("a command is named as its function, whatever surrounds it") {
    CHECK(names<ledger>() == std::vector{"deposit"sv, "check"sv, "keep"sv, "count"sv, "text"sv});
    CHECK(names<unnamed_namespace>() == std::vector{"here"sv});
    CHECK(names<templated<int>>() == std::vector{"size"sv});
    CHECK(names<templated<std::vector<std::string>>>() == std::vector{"size"sv});
    CHECK(names<templated<std::array<int[3], 2>>>() == std::vector{"size"sv});

    struct local {
      int inside() { return 1; }
    };
    CHECK(pulsar::commands<&local::inside>::at<0>::name == "inside");
  }

  TEST_CASE("named<> gives overloads and templates names of their own") {
    CHECK(names<overloaded>() ==
          std::vector{"put_number"sv, "put_text"sv, "twice_int"sv, "twice_text"sv});
    CHECK(std::is_same_v<traits<overloaded, 0>::result, int>);
    CHECK(std::is_same_v<traits<overloaded, 1>::result, std::string>);
    CHECK(std::is_same_v<traits<overloaded, 2>::arguments, std::tuple<int>>);
    CHECK(std::is_same_v<traits<overloaded, 3>::arguments, std::tuple<std::string>>);
  }

  TEST_CASE("commands_of takes over the list of a base, in its place") {
    CHECK(names<savings>() == std::vector{"deposit"sv, "check"sv, "keep"sv, "count"sv, "text"sv,
                                          "interest"sv});
    CHECK(names<portfolio>() ==
          std::vector{"dividend"sv, "rebalance"sv, "deposit"sv, "check"sv, "keep"sv, "count"sv,
                      "text"sv, "interest"sv, "put"sv});
  }

  TEST_CASE("a list may be empty") {
    CHECK(silent::commands::size == 0);
    CHECK(silent::commands::find("anything") == 0);
    CHECK_FALSE(pulsar::has_command<silent, "anything">);
  }

  TEST_CASE("a name is found in the list, or its size is given") {
    CHECK(ledger::commands::find("deposit") == 0);
    CHECK(ledger::commands::find("text") == 4);
    CHECK(ledger::commands::find("audit") == ledger::commands::size);
    CHECK(ledger::commands::find("") == ledger::commands::size);
    CHECK(pulsar::has_command<ledger, "check">);
    CHECK_FALSE(pulsar::has_command<ledger, "audit">);
    CHECK(pulsar::has_command<savings, "deposit">);
  }

  TEST_CASE("arguments are the plain types of the parameters") {
    CHECK(std::is_same_v<traits<ledger, 0>::arguments, std::tuple<std::string, long>>);
    CHECK(std::is_same_v<traits<ledger, 1>::arguments, std::tuple<std::string>>);
    CHECK(std::is_same_v<traits<ledger, 2>::arguments, std::tuple<std::unique_ptr<int>>>);
    CHECK(traits<ledger, 0>::arity == 2);
    CHECK(traits<ledger, 3>::arity == 0);
  }

  TEST_CASE("the result of a coroutine is that of its future, that of a getter a value") {
    CHECK(std::is_same_v<traits<ledger, 0>::result, long>);
    CHECK_FALSE(traits<ledger, 0>::asynchronous);
    CHECK(std::is_same_v<traits<ledger, 1>::result, long>);
    CHECK(traits<ledger, 1>::asynchronous);
    CHECK(std::is_same_v<traits<ledger, 2>::result, void>);
    CHECK(std::is_same_v<traits<ledger, 4>::result, std::string>);
  }

  TEST_CASE("a call moves values and lends references, to the class that has the function") {
    derived_recorder actor;
    std::tuple<std::string, int> values("a text that is too long for the string itself", 7);
    CHECK((traits<derived_recorder, 0>::call(actor, values, std::index_sequence<0, 1>{}) == 7));
    CHECK(actor.log == "a text that is too long for the string itself");
    CHECK(std::get<0>(values).empty());

    std::tuple<std::string> lent("lent");
    CHECK(traits<derived_recorder, 1>::call(actor, lent, std::index_sequence<0>{}) == &std::get<0>(lent));
    CHECK(std::get<0>(lent) == "lent");

    std::tuple<std::unique_ptr<int>> owned(std::make_unique<int>(9));
    CHECK(traits<derived_recorder, 2>::call(actor, owned, std::index_sequence<0>{}) == 9);
    CHECK(std::get<0>(owned) == nullptr);
  }

  TEST_CASE("a literal with _cmd is the name as a type") {
    CHECK(decltype("deposit"_cmd)::name == "deposit");
    CHECK(std::is_same_v<decltype("deposit"_cmd), pulsar::command_name<"deposit">>);
    CHECK_FALSE(std::is_same_v<decltype("deposit"_cmd), decltype("deposits"_cmd)>);
  }
}
