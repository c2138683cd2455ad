// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/reflect.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace {

template <class... Ts>
using list = pulsar::detail::type_list<Ts...>;

struct empty {};

struct order {
  std::uint64_t id = 0;
  std::string symbol;
  std::unique_ptr<int> parent;
};

struct inner {
  int a = 0;
  int b = 0;
};

enum class color { red, green };

// One field of every kind that has constructors of its own, or none.
struct assorted {
  std::string text;
  std::optional<std::string> note;
  std::variant<int, std::string> either;
  std::unique_ptr<int> owner;
  std::map<int, std::string> table;
  std::chrono::seconds age{};
  std::error_code code;
  std::function<void()> call;
  inner nested;
  std::vector<std::optional<int>> items;
  std::optional<inner> maybe;
  std::array<int, 3> three{};
  std::pair<int, int> two;
  std::tuple<int, std::string> both;
  std::optional<std::optional<int>> twice;
  std::monostate nothing;
  color hue{};
  std::nullptr_t null = nullptr;
  bool flag = false;
  std::byte raw{};
  std::string_view view;
  std::shared_ptr<int> shared;
  std::variant<std::monostate, inner> one_of;
  std::chrono::system_clock::time_point when;
  std::tuple<> none;
  std::tuple<std::string> single;
};

struct just_one {
  std::optional<int> only;
};

template <class T>
struct holder {
  T first;
  std::vector<T> rest;
};

struct wide {
  int f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15;
  int f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26, f27, f28, f29, f30, f31;
};

struct too_wide {
  wide w;
  int f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15;
  int f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26, f27, f28, f29, f30, f31;
  int f32;
};

struct with_array {
  int a = 0;
  int b[3]{};
  std::string c;
};
struct with_array_last {
  std::string c;
  char b[8]{};
};
struct with_array_of_one {
  int b[1]{};
};
struct with_array_of_structs {
  inner pairs[2];
  int c = 0;
};
struct with_array_of_arrays {
  int c = 0;
  int grid[2][2]{};
};
struct derived : inner {
  int c = 0;
};
struct derived_from_empty : empty {
  int c = 0;
};
struct with_reference {
  int& r;
};
struct with_bound_reference {
  int a = 0;
  const int& r = a;
};
struct with_const {
  const int c = 1;
};
struct needs_argument {
  explicit needs_argument(int v) : value(v) {}
  int value;
};
struct without_default {
  int a = 0;
  needs_argument n;
};
struct with_given_default {
  int a = 0;
  needs_argument n{3};
};
union either {
  int a;
  float b;
};
class closed {
 public:
  int open() const { return hidden_; }

 private:
  int hidden_ = 0;
};

class account {
 public:
  account() = default;
  account(std::string owner, long cents) : owner_(std::move(owner)), cents_(cents) {}
  const std::string& owner() const { return owner_; }
  long cents() const { return cents_; }

  friend auto pulsar_fields(account& a) { return std::tie(a.owner_, a.cents_); }

 private:
  std::string owner_;
  long cents_ = 0;
};

class savings : public account {
 public:
  double rate = 0;
};

class labelled {
 public:
  friend auto pulsar_fields(labelled& l) {
    return std::tuple(pulsar::named_field("id", l.id_), pulsar::named_field("tag", l.tag_));
  }
  int id() const { return id_; }
  const std::string& tag() const { return tag_; }

 private:
  int id_ = 7;
  std::string tag_ = "seven";
};

// An aggregate may have a hook as well: it then says what counts.
struct trimmed {
  int kept = 1;
  int scratch[4] = {};
  friend auto pulsar_fields(trimmed& t) { return std::tie(t.kept); }
};

using pulsar::detail::aggregate_flaw;
using pulsar::detail::flaw_of;

}  // namespace

TEST_SUITE("reflect") {
  TEST_CASE("the fields of an aggregate are counted whatever their types accept") {
    CHECK(pulsar::field_count<empty> == 0);
    CHECK(pulsar::field_count<just_one> == 1);
    CHECK(pulsar::field_count<order> == 3);
    CHECK(pulsar::field_count<assorted> == 26);
    CHECK(pulsar::field_count<holder<std::tuple<int>>> == 2);
    CHECK(pulsar::field_count<wide> == 32);
  }

  TEST_CASE("the types of the fields are known in their order") {
    CHECK(std::is_same_v<pulsar::detail::field_types<order>,
                         list<std::uint64_t, std::string, std::unique_ptr<int>>>);
    CHECK(std::is_same_v<pulsar::detail::field_types<account>, list<std::string, long>>);
    CHECK(std::is_same_v<pulsar::detail::field_types<labelled>, list<int, std::string>>);
  }

  TEST_CASE("a visitor gets all fields in their order and can change them") {
    order o;
    pulsar::visit_fields(o, [](std::uint64_t& id, std::string& symbol, std::unique_ptr<int>& p) {
      id = 5;
      symbol = "PLSR";
      p = std::make_unique<int>(4);
    });
    CHECK(o.id == 5);
    CHECK(o.symbol == "PLSR");
    CHECK(*o.parent == 4);
  }

  TEST_CASE("a visitor of a const object gets const fields and returns what it likes") {
    const order o{9, "X", nullptr};
    const auto sum = pulsar::visit_fields(o, [](auto&... field) {
      static_assert((std::is_const_v<std::remove_reference_t<decltype(field)>> && ...));
      return sizeof...(field);
    });
    CHECK(sum == 3);
  }

  TEST_CASE("thirty-two fields are visited in their order") {
    wide w{};
    int next = 0;
    pulsar::visit_fields(w, [&](auto&... field) { ((field = next++), ...); });
    CHECK(w.f0 == 0);
    CHECK(w.f17 == 17);
    CHECK(w.f31 == 31);
  }

  TEST_CASE("names are those of the source, also in local, templated and unnamed-space types") {
    struct local {
      int alpha = 0;
      std::string _beta2;
    };
    constexpr auto names = pulsar::field_names<order>();
    CHECK(names[0] == "id");
    CHECK(names[1] == "symbol");
    CHECK(names[2] == "parent");
    CHECK(pulsar::field_names<local>()[0] == "alpha");
    CHECK(pulsar::field_names<local>()[1] == "_beta2");
    CHECK(pulsar::field_names<holder<std::map<int, int>>>()[1] == "rest");
    CHECK(pulsar::field_names<just_one>()[0] == "only");
    CHECK(pulsar::field_names<wide>()[31] == "f31");
    CHECK(pulsar::field_names<assorted>()[8] == "nested");
    CHECK(pulsar::field_names<assorted>()[25] == "single");
    CHECK(pulsar::field_names<empty>().size() == 0);
  }

  TEST_CASE("a hook shows the fields of a class, for reading and for writing") {
    account a("ann", 250);
    pulsar::visit_fields(a, [](std::string& owner, long& cents) {
      owner += "a";
      cents *= 2;
    });
    CHECK(a.owner() == "anna");
    CHECK(a.cents() == 500);
    const account& view = a;
    pulsar::visit_fields(view, [](auto&... field) {
      static_assert((std::is_const_v<std::remove_reference_t<decltype(field)>> && ...));
    });
    trimmed t;
    pulsar::visit_fields(t, [](auto&... field) {
      CHECK(sizeof...(field) == 1);
      ((field = 5), ...);
    });
    CHECK(t.kept == 5);
  }

  TEST_CASE("named fields come from the source or from the hook") {
    std::vector<std::string> names;
    const auto collect = [&](auto... field) { (names.emplace_back(field.name()), ...); };
    order o;
    pulsar::visit_named_fields(o, collect);
    labelled l;
    pulsar::visit_named_fields(l, collect);
    CHECK(names == std::vector<std::string>{"id", "symbol", "parent", "id", "tag"});
    pulsar::visit_named_fields(l, [](auto id, auto tag) {
      id.value() = 8;
      tag.value() = "eight";
    });
    CHECK(l.id() == 8);
    CHECK(l.tag() == "eight");
    const labelled& view = l;
    pulsar::visit_named_fields(view, [](auto id, auto) {
      static_assert(std::is_const_v<std::remove_reference_t<decltype(id.value())>>);
      CHECK(id.value() == 8);
    });
    CHECK(pulsar::named_reflectable<order>);
    CHECK(pulsar::named_reflectable<labelled>);
    CHECK_FALSE(pulsar::named_reflectable<account>);
  }

  TEST_CASE("what cannot be taken apart is recognised, with its reason") {
    CHECK(flaw_of<order> == aggregate_flaw::none);
    CHECK(flaw_of<assorted> == aggregate_flaw::none);
    CHECK(flaw_of<wide> == aggregate_flaw::none);
    CHECK(flaw_of<too_wide> == aggregate_flaw::too_many);
    CHECK(flaw_of<with_array> == aggregate_flaw::c_array);
    CHECK(flaw_of<with_array_last> == aggregate_flaw::c_array);
    CHECK(flaw_of<with_array_of_one> == aggregate_flaw::c_array);
    CHECK(flaw_of<with_array_of_structs> == aggregate_flaw::c_array);
    CHECK(flaw_of<with_array_of_arrays> == aggregate_flaw::c_array);
    CHECK(flaw_of<derived> == aggregate_flaw::base);
    CHECK(flaw_of<derived_from_empty> == aggregate_flaw::base);
    CHECK(flaw_of<with_reference> == aggregate_flaw::not_default_constructible);
    CHECK(flaw_of<with_bound_reference> == aggregate_flaw::not_assignable);
    CHECK(flaw_of<with_const> == aggregate_flaw::not_assignable);
    CHECK(flaw_of<without_default> == aggregate_flaw::not_default_constructible);
    CHECK(flaw_of<with_given_default> == aggregate_flaw::field_without_default);
    CHECK(flaw_of<either> == aggregate_flaw::is_union);
    CHECK(flaw_of<closed> == aggregate_flaw::not_aggregate);
    CHECK(flaw_of<int> == aggregate_flaw::not_aggregate);
    CHECK(flaw_of<std::mutex> == aggregate_flaw::not_aggregate);
  }

  TEST_CASE("a type that cannot be taken apart fails the concept, not the compilation") {
    CHECK(pulsar::reflectable<order>);
    CHECK(pulsar::reflectable<const order>);
    CHECK(pulsar::reflectable<account>);
    CHECK(pulsar::reflectable<trimmed>);
    CHECK_FALSE(pulsar::reflectable<with_array>);
    CHECK_FALSE(pulsar::reflectable<closed>);
    CHECK_FALSE(pulsar::reflectable<int>);
    CHECK_FALSE(pulsar::reflectable<int*>);
    CHECK_FALSE(pulsar::reflectable<std::function<void()>>);
    CHECK_FALSE(pulsar::named_reflectable<closed>);
  }

  TEST_CASE("a derived class does not use the hook of its base by accident") {
    CHECK_FALSE(pulsar::reflectable<savings>);
  }
}
