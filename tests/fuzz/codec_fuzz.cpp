// SPDX-License-Identifier: BSD-3-Clause
//
// Any bytes, decoded as values of many types. What is accepted must be encoded again into bytes
// that are accepted, too, and stay the same from then on, in both forms of structs; and passing
// over a value must find the same end as reading it.
#include <pulsar/core/codec.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace {

struct point {
  int x = 0;
  int y = 0;
  bool operator==(const point&) const = default;
};

struct order {
  std::uint64_t id = 0;
  std::string symbol;
  double price = 0;
  int quantity = 0;
  std::vector<std::uint32_t> tags;
  std::optional<std::string> note;
};

struct tree {
  int value = 0;
  std::vector<tree> children;
  std::unique_ptr<tree> next;
  std::map<std::string, tree> named;
};

enum class color : std::uint8_t { red = 1, green = 200 };

class date {
 public:
  bool operator==(const date&) const = default;
  friend void pulsar_encode(pulsar::encoder& out, const date& d) {
    out.write_array(2);
    out.write(d.year_);
    out.write(d.note_);
  }
  friend bool pulsar_decode(pulsar::decoder& in, date& d) {
    std::size_t n = 0;
    return in.read_array(n) && (n == 2 || in.fail("a date")) && in.read(d.year_) &&
           in.read(d.note_);
  }

 private:
  int year_ = 0;
  std::optional<std::string> note_;
};

class labelled {
 public:
  friend auto pulsar_fields(labelled& l) {
    return std::tuple(pulsar::named_field("id", l.id_), pulsar::named_field("tag", l.tag_));
  }

 private:
  std::int64_t id_ = 0;
  std::string tag_;
};

struct everything {
  bool yes = false;
  std::int8_t i8 = 0;
  std::uint16_t u16 = 0;
  std::int64_t i64 = 0;
  color hue = color::red;
  float single = 0;
  double number = 0;
  std::string text;
  pulsar::bytes raw;
  std::array<std::uint8_t, 4> address{};
  std::array<int, 3> three{};
  std::vector<bool> bits;
  std::deque<std::string> queue;
  std::list<std::int16_t> chain;
  std::set<std::string> unique;
  std::multimap<int, int> pairs;
  std::pair<int, std::string> two;
  std::tuple<int, std::string, bool> three_of;
  std::optional<std::optional<int>> twice;
  std::variant<std::monostate, int, point> either;
  std::chrono::milliseconds pause{};
  std::error_code code;
  std::nullptr_t nothing{};
  std::vector<date> dates;
  labelled label;
};

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", sentence);
  std::abort();
}

// Missing fields may come back as values nested one level deeper than what was read.
template <class T>
bool encoded(pulsar::buffer& out, const T& value) {
  try {
    encode(out, value);
    return true;
  } catch (const pulsar::error& e) {
    require(e.code() == pulsar::errc::too_large, "what was decoded cannot be encoded");
    require(out.empty(), "a failed encode left bytes behind");
    return false;
  }
}

void check_refusal(const pulsar::decode_failure& failure, std::size_t size) {
  require(failure.code() == pulsar::errc::malformed || failure.code() == pulsar::errc::too_large,
          "a failure without a code");
  require(failure.offset() <= size, "a failure outside the message");
  require(!failure.message().empty(), "a failure without a sentence");
}

// The order of elements, which of two equal forms they had, and the bits of a NaN must stay.
template <class T>
void check_bytes(const T& value, const pulsar::buffer& first) {
  T again{};
  require(!pulsar::try_decode(first, again), "what was encoded is refused");
  pulsar::buffer second;
  require(encoded(second, again) && second.text() == first.text(), "the second form differs");
  pulsar::buffer named;
  encode_named(named, value);
  T from_names{};
  require(!pulsar::try_decode(named, from_names), "the named form is refused");
  pulsar::buffer third;
  require(encoded(third, from_names) && third.text() == first.text(), "the named form differs");
}

// Hash tables have no order that could stay.
using table = std::unordered_map<std::string, std::unordered_set<std::uint32_t>>;
void check_bytes(const table& value, const pulsar::buffer& first) {
  table again;
  require(!pulsar::try_decode(first, again), "what was encoded is refused");
  require(again == value, "a hash table came back as another one");
}

template <class T>
void check(std::span<const std::byte> in) {
  T value{};
  if (const auto failure = pulsar::try_decode(in, value)) {
    check_refusal(failure, in.size());
    return;
  }
  pulsar::decoder walker(in);
  require(walker.skip() && walker.rest().empty(), "skipping a value finds another end");
  pulsar::buffer first;
  if (encoded(first, value)) check_bytes(value, first);
}

template <class... Ts>
void check_all(std::span<const std::byte> in) {
  (check<Ts>(in), ...);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto in = std::as_bytes(std::span(data, size));
  check_all<bool, std::int8_t, std::uint16_t, std::int32_t, std::uint64_t, color, float, double>(
      in);
  check_all<std::string, pulsar::bytes, std::vector<std::string>, std::vector<std::int64_t>>(in);
  check_all<point, order, tree, labelled, everything, std::vector<order>>(in);
  check_all<std::tuple<std::string, long>, std::variant<int, std::string, std::vector<point>>>(in);
  check_all<std::set<int>, std::map<std::string, std::vector<std::optional<point>>>>(in);
  check_all<table>(in);
  check_all<std::error_code, std::optional<std::optional<date>>>(in);
  // Small limits: every one of them must hold without harm.
  std::vector<tree> trees;
  if (const auto failure = pulsar::try_decode(in, trees, {.size = 1000, .memory = 500})) {
    check_refusal(failure, in.size());
  }
  return 0;
}
