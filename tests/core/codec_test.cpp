// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/codec.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace {

using pulsar::decode;
using pulsar::encode;
using pulsar::encode_named;

// Bytes from hexadecimal digits; blanks are ignored.
pulsar::bytes hex(std::string_view digits) {
  pulsar::bytes out;
  std::string pair;
  for (const char c : digits) {
    if (c == ' ') continue;
    pair += c;
    if (pair.size() == 2) {
      out.push_back(static_cast<std::byte>(std::stoi(pair, nullptr, 16)));
      pair.clear();
    }
  }
  return out;
}

std::string hex(std::span<const std::byte> in) {
  std::string out;
  for (const auto b : in) {
    out += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
    out += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

template <class T>
std::string wire(const T& value) {
  return hex(encode(value));
}

// The sentence with which decoding `in` as a T fails.
template <class T>
std::string refusal(const pulsar::bytes& in, pulsar::decode_limits limits = {}) {
  T out{};
  const auto failure = pulsar::try_decode(in, out, limits);
  REQUIRE(failure);
  return failure.message();
}

template <class T>
void check_round_trip(const T& value) {
  const auto out = encode(value);
  CHECK(decode<T>(out) == value);
}

// Every strict beginning of what encodes `value` is refused, and so is one byte too many.
template <class T>
void check_every_cut(const T& value) {
  const auto out = encode(value);
  for (std::size_t n = 0; n < out.size(); ++n) {
    // A copy of exactly that size: the sanitizer sees a read beyond it.
    const pulsar::bytes cut(out.data(), out.data() + n);
    T back{};
    const auto failure = pulsar::try_decode(cut, back);
    CHECK(failure);
    CHECK(failure.code() == pulsar::errc::malformed);
    CHECK(failure.offset() <= n);
  }
  pulsar::bytes more(out.begin(), out.end());
  more.push_back(std::byte{0xc0});
  T back{};
  const auto failure = pulsar::try_decode(more, back);
  CHECK(failure.message() == "expected the end of the data but found 1 more bytes at offset " +
                                 std::to_string(out.size()));
}

struct point {
  int x = 0;
  int y = 0;
  bool operator==(const point&) const = default;
};

enum class color : std::uint8_t { red = 1, green = 200 };
enum shade : int { dark = -5, light = 70000 };
enum class flag : bool { off, on };

struct order {
  std::uint64_t id = 0;
  std::string symbol;
  double price = 0;
  int quantity = 0;
  std::vector<std::uint32_t> tags;
  std::optional<std::string> note;
  bool operator==(const order&) const = default;
};

order sample_order() {
  return {1234567890123, "PLSR", 101.25, -250, {1, 200, 3000, 70000}, "fill or kill"};
}

// The same message two versions later, and one version earlier.
struct longer_order {
  std::uint64_t id = 0;
  std::string symbol;
  double price = 0;
  int quantity = 0;
  std::vector<std::uint32_t> tags;
  std::optional<std::string> note;
  std::string venue = "XETRA";
  int lots = 7;
};
struct shorter_order {
  std::uint64_t id = 0;
  std::string symbol;
};

struct tree {
  int value = 0;
  std::vector<tree> children;
  std::unique_ptr<tree> next;
};

struct everything {
  bool yes = false;
  std::int8_t i8 = 0;
  std::uint16_t u16 = 0;
  std::int32_t i32 = 0;
  std::uint64_t u64 = 0;
  char letter = 0;
  color hue = color::red;
  shade tone = dark;
  flag on = flag::off;
  float single = 0;
  double number = 0;
  std::string text;
  pulsar::bytes raw;
  std::array<std::uint8_t, 4> address{};
  std::array<int, 3> three{};
  std::vector<std::string> words;
  std::vector<bool> bits;
  std::deque<int> queue;
  std::list<std::string> chain;
  std::set<int> unique;
  std::multiset<int> many;
  std::map<std::string, int> table;
  std::multimap<int, int> pairs;
  std::pair<int, std::string> two;
  std::tuple<int, std::string, bool> three_of;
  std::optional<std::optional<int>> twice;
  std::variant<std::monostate, int, point> either;
  std::chrono::milliseconds pause{};
  std::chrono::system_clock::time_point when;
  std::error_code code;
  std::monostate nothing;
  point nested;
  bool operator==(const everything&) const = default;
};

everything sample_of_everything() {
  everything e;
  e.yes = true;
  e.i8 = -100;
  e.u16 = 60000;
  e.i32 = -70000;
  e.u64 = std::numeric_limits<std::uint64_t>::max();
  e.letter = 'p';
  e.hue = color::green;
  e.tone = light;
  e.on = flag::on;
  e.single = 0.1F;
  e.number = 0.1;
  e.text = "caf\xc3\xa9";
  e.raw = hex("00ff10");
  e.address = {127, 0, 0, 1};
  e.three = {1, -1, 1000};
  e.words = {"", "one", std::string(40, 'w')};
  e.bits = {true, false, true};
  e.queue = {1, 2, 3};
  e.chain = {"a", "b"};
  e.unique = {-1, 5, 700};
  e.many = {3, 3, 4};
  e.table = {{"ann", 250}, {"bob", -1}};
  e.pairs = {{1, 1}, {1, 2}};
  e.two = {7, "seven"};
  e.three_of = {1, "x", true};
  e.twice = std::optional<int>();
  e.either = point{3, 4};
  e.pause = std::chrono::milliseconds(1500);
  e.when = std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000));
  e.code = pulsar::make_error_code(pulsar::errc::timed_out);
  e.nested = {5, -6};
  return e;
}

// -- types with functions of their own ---------------------------------------

class date {
 public:
  date() = default;
  date(int year, int day) : year_(year), day_(day) {}
  bool operator==(const date&) const = default;

  friend void pulsar_encode(pulsar::encoder& out, const date& d) {
    out.write(std::to_string(d.year_) + "/" + std::to_string(d.day_));
  }
  friend bool pulsar_decode(pulsar::decoder& in, date& d) {
    std::string_view text;
    if (!in.read_text(text)) return false;
    const auto slash = text.find('/');
    if (slash == text.npos) return in.fail("a date");
    d.year_ = std::stoi(std::string(text.substr(0, slash)));
    d.day_ = std::stoi(std::string(text.substr(slash + 1)));
    return true;
  }

 private:
  int year_ = 0;
  int day_ = 0;
};

// Travels as an array of its own making, and as a map for foreign readers.
template <class T>
class range_of {
 public:
  range_of() = default;
  range_of(T from, T to) : from_(from), to_(to) {}
  bool operator==(const range_of&) const = default;

  friend void pulsar_encode(pulsar::encoder& out, const range_of& r) {
    if (out.named()) {
      out.write_map(2);
      out.write(std::string_view("from"));
      out.write(r.from_);
      out.write(std::string_view("to"));
    } else {
      out.write_array(2);
      out.write(r.from_);
    }
    out.write(r.to_);
  }
  friend bool pulsar_decode(pulsar::decoder& in, range_of& r) {
    std::size_t n = 0;
    return in.read_array(n) && (n == 2 || in.fail("a range of two")) && in.read(r.from_) &&
           in.read(r.to_);
  }

 private:
  T from_{};
  T to_{};
};

// Ends a chain with nil, without `std::optional`.
class chain_link {
 public:
  int value = 0;
  std::unique_ptr<chain_link> next;

  explicit chain_link(int v) : value(v) {}
  chain_link() = default;

  friend void pulsar_encode(pulsar::encoder& out, const chain_link& l) {
    out.write_array(2);
    out.write(l.value);
    out.write(l.next);
  }
  friend bool pulsar_decode(pulsar::decoder& in, chain_link& l) {
    std::size_t n = 0;
    return in.read_array(n) && (n == 2 || in.fail("a link")) && in.read(l.value) && in.read(l.next);
  }
};

class stamp {
 public:
  std::uint32_t seconds = 0;

  friend void pulsar_encode(pulsar::encoder& out, const stamp& s) {
    const std::array<std::byte, 4> data{
        static_cast<std::byte>(s.seconds >> 24), static_cast<std::byte>(s.seconds >> 16 & 255U),
        static_cast<std::byte>(s.seconds >> 8 & 255U), static_cast<std::byte>(s.seconds & 255U)};
    out.write_extension(-1, data);
  }
  friend bool pulsar_decode(pulsar::decoder& in, stamp& s) {
    std::int8_t type = 0;
    std::span<const std::byte> data;
    if (!in.read_extension(type, data)) return false;
    if (type != -1 || data.size() != 4) return in.fail("a timestamp");
    s.seconds = 0;
    for (const auto b : data) s.seconds = s.seconds << 8 | std::to_integer<std::uint32_t>(b);
    return true;
  }
};

// Only one way.
class shout {
 public:
  friend void pulsar_encode(pulsar::encoder& out, const shout&) { out.write(std::string("!")); }
};

class account {
 public:
  account() = default;
  account(std::string owner, long cents) : owner_(std::move(owner)), cents_(cents) {}
  bool operator==(const account&) const = default;
  friend auto pulsar_fields(account& a) { return std::tie(a.owner_, a.cents_); }

 private:
  std::string owner_;
  long cents_ = 0;
};

class labelled {
 public:
  labelled() = default;
  labelled(int id, std::string tag) : id_(id), tag_(std::move(tag)) {}
  bool operator==(const labelled&) const = default;
  friend auto pulsar_fields(labelled& l) {
    return std::tuple(pulsar::named_field("id", l.id_), pulsar::named_field("tag", l.tag_));
  }

 private:
  int id_ = 0;
  std::string tag_;
};

class opaque {
 public:
  int look() const { return hidden_; }

 private:
  int hidden_ = 0;
};

struct with_pointer {
  int* p = nullptr;
};
struct with_array {
  int a[3]{};
};
struct with_opaque {
  std::map<int, std::vector<opaque>> deep;
};
struct with_view {
  std::string_view text;
};

// Remembers the largest single request.
inline std::size_t largest_request = 0;

template <class T>
struct watching_allocator {
  using value_type = T;
  watching_allocator() = default;
  template <class U>
  watching_allocator(const watching_allocator<U>&) noexcept {}
  T* allocate(std::size_t n) {
    largest_request = std::max(largest_request, n * sizeof(T));
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* p, std::size_t n) noexcept { std::allocator<T>().deallocate(p, n); }
  bool operator==(const watching_allocator&) const = default;
};

struct large_element {
  std::array<std::uint64_t, 32> words{};
  std::string name;
};

std::string nested_arrays(std::size_t levels) {
  std::string digits;
  for (std::size_t i = 0; i < levels; ++i) digits += "91";
  return digits + "c0";
}

class own_category final : public std::error_category {
 public:
  explicit own_category(const char* name) : name_(name) {}
  const char* name() const noexcept override { return name_; }
  std::string message(int) const override { return "own"; }

 private:
  const char* name_;
};

// A namespace whose functions take anything must not be asked.
namespace greedy {
struct item {
  int value = 0;
  std::vector<item> more;
};
template <class... Args>
void encode(Args&&...) = delete;
template <class... Args>
void decode_value(Args&&...) = delete;
template <auto, class... Args>
void encode_value(Args&&...) = delete;
template <class... Args>
void visit_fields(Args&&...) = delete;
}  // namespace greedy

}  // namespace

TEST_SUITE("codec") {
  TEST_CASE("integers take the narrowest form that MessagePack has") {
    CHECK(wire(0) == "00");
    CHECK(wire(127) == "7f");
    CHECK(wire(128) == "cc80");
    CHECK(wire(255) == "ccff");
    CHECK(wire(256) == "cd0100");
    CHECK(wire(65535) == "cdffff");
    CHECK(wire(65536) == "ce00010000");
    CHECK(wire(4294967295U) == "ceffffffff");
    CHECK(wire(4294967296LL) == "cf0000000100000000");
    CHECK(wire(std::numeric_limits<std::uint64_t>::max()) == "cfffffffffffffffff");
    CHECK(wire(-1) == "ff");
    CHECK(wire(-32) == "e0");
    CHECK(wire(-33) == "d0df");
    CHECK(wire(-128) == "d080");
    CHECK(wire(-129) == "d1ff7f");
    CHECK(wire(-32768) == "d18000");
    CHECK(wire(-32769) == "d2ffff7fff");
    CHECK(wire(std::numeric_limits<std::int32_t>::min()) == "d280000000");
    CHECK(wire(-2147483649LL) == "d3ffffffff7fffffff");
    CHECK(wire(std::numeric_limits<std::int64_t>::min()) == "d38000000000000000");
    CHECK(wire(std::int8_t{-128}) == "d080");
    CHECK(wire(std::uint8_t{200}) == "ccc8");
    CHECK(wire(std::int16_t{-129}) == "d1ff7f");
    CHECK(wire('a') == "61");
  }

  TEST_CASE("the other scalars are written as MessagePack says") {
    CHECK(wire(true) == "c3");
    CHECK(wire(false) == "c2");
    CHECK(wire(nullptr) == "c0");
    CHECK(wire(std::monostate()) == "c0");
    CHECK(wire(1.5F) == "ca3fc00000");
    CHECK(wire(-0.0) == "cb8000000000000000");
    CHECK(wire(color::green) == "ccc8");
    CHECK(wire(dark) == "fb");
    CHECK(wire(flag::on) == "c3");
    CHECK(wire(std::chrono::seconds(90)) == "5a");
    CHECK(wire(std::chrono::duration<double>(1.5)) == "cb3ff8000000000000");
  }

  TEST_CASE("strings and binary data have headers of four sizes") {
    const auto head = [](const auto& value, std::size_t n) { return wire(value).substr(0, 2 * n); };
    CHECK(wire(std::string()) == "a0");
    CHECK(wire(std::string("abc")) == "a3616263");
    CHECK(wire(std::string_view("abc")) == "a3616263");
    CHECK(head(std::string(31, 'x'), 2) == "bf78");
    CHECK(head(std::string(32, 'x'), 3) == "d92078");
    CHECK(head(std::string(255, 'x'), 3) == "d9ff78");
    CHECK(head(std::string(256, 'x'), 4) == "da010078");
    CHECK(head(std::string(65535, 'x'), 4) == "daffff78");
    CHECK(head(std::string(65536, 'x'), 6) == "db0001000078");
    CHECK(wire(pulsar::bytes()) == "c400");
    CHECK(wire(hex("01ff")) == "c40201ff");
    CHECK(wire(std::vector<unsigned char>{1, 2}) == "c4020102");
    CHECK(wire(std::array<unsigned char, 2>{1, 2}) == "c4020102");
    CHECK(wire(std::span<const std::byte>(hex("07"))) == "c40107");
    CHECK(head(pulsar::bytes(256), 4) == "c5010000");
    CHECK(head(pulsar::bytes(65536), 6) == "c60001000000");
    for (const std::size_t n : {0U, 1U, 2U, 3U, 4U, 5U, 7U, 8U, 9U, 15U, 16U, 17U, 31U, 32U, 255U,
                                256U, 65535U, 65536U, 100000U}) {
      std::string text;
      pulsar::bytes raw;
      for (std::size_t i = 0; i < n; ++i) {
        text += static_cast<char>('a' + i % 26);
        raw.push_back(static_cast<std::byte>(i % 251));
      }
      check_round_trip(text);
      check_round_trip(raw);
    }
  }

  TEST_CASE("containers have headers of three sizes") {
    CHECK(wire(std::vector<int>()) == "90");
    CHECK(wire(std::vector<int>{1, 2, 3}) == "93010203");
    CHECK(wire(std::vector<int>(15)).substr(0, 4) == "9f00");
    CHECK(wire(std::vector<int>(16)).substr(0, 8) == "dc001000");
    CHECK(wire(std::vector<int>(65535)).substr(0, 8) == "dcffff00");
    CHECK(wire(std::vector<int>(65536)).substr(0, 12) == "dd0001000000");
    CHECK(wire(std::map<int, bool>{{1, true}}) == "8101c3");
    std::map<int, int> big;
    for (int i = 0; i < 16; ++i) big[i] = i;
    CHECK(wire(big).substr(0, 10) == "de00100000");
    CHECK(wire(std::set<std::string>{"b", "a"}) == "92a161a162");
    CHECK(wire(std::array<int, 2>{4, 5}) == "920405");
    CHECK(wire(std::pair(1, true)) == "9201c3");
    CHECK(wire(std::tuple(1, std::string("x"), 2.0)) == "9301a178cb4000000000000000");
    CHECK(wire(std::tuple()) == "90");
    const int three[] = {1, 2, 3};
    CHECK(wire(std::span<const int>(three)) == "93010203");
  }

  TEST_CASE("a struct is an array of its fields") {
    CHECK(wire(point{1, -1}) == "9201ff");
    CHECK(wire(order{7, "PLSR", 0.5, -3, {1, 300}, {}}) ==
          "9607a4504c5352cb3fe0000000000000fd9201cd012cc0");
    struct empty {};
    CHECK(wire(empty{}) == "90");
  }

  TEST_CASE("every supported type comes back as it was") {
    const auto e = sample_of_everything();
    check_round_trip(e);
    check_round_trip(sample_order());
    check_round_trip(std::unordered_map<std::string, point>{{"a", {1, 2}}, {"b", {3, 4}}});
    check_round_trip(std::unordered_set<std::uint64_t>{1, 2, 1ULL << 40});
    check_round_trip(std::vector<std::vector<std::pair<int, std::optional<order>>>>{
        {{1, sample_order()}, {2, {}}}, {}});
    check_round_trip(account("ann", 250));
    check_round_trip(std::vector<account>(300, account("bob", -1)));
    check_round_trip(std::vector<float>{0.5F, -1.25F});
    check_round_trip(std::u16string().size());
  }

  TEST_CASE("long containers are written in blocks without losing an element") {
    for (const std::size_t n : {63U, 64U, 65U, 455U, 456U, 457U, 1000U, 100000U}) {
      std::vector<std::uint64_t> numbers;
      std::deque<std::int16_t> small;
      std::list<point> points;
      for (std::size_t i = 0; i < n; ++i) {
        numbers.push_back(i * 0x9e3779b97f4a7c15ULL >> i % 64);
        small.push_back(static_cast<std::int16_t>(static_cast<int>(i % 60000) - 30000));
        points.push_back({static_cast<int>(i), -static_cast<int>(i)});
      }
      check_round_trip(numbers);
      check_round_trip(small);
      check_round_trip(points);
      check_round_trip(std::vector<bool>(n, true));
    }
  }

  TEST_CASE("floating-point numbers come back bit by bit") {
    const double doubles[] = {0.0,
                              -0.0,
                              std::numeric_limits<double>::infinity(),
                              -std::numeric_limits<double>::infinity(),
                              std::numeric_limits<double>::denorm_min(),
                              std::numeric_limits<double>::max(),
                              std::bit_cast<double>(0x7ff8000000000123ULL),
                              std::bit_cast<double>(0xfff8000000000001ULL)};
    for (const double d : doubles) {
      CHECK(std::bit_cast<std::uint64_t>(decode<double>(encode(d))) ==
            std::bit_cast<std::uint64_t>(d));
    }
    const float nan = std::bit_cast<float>(0x7fc01234U);
    CHECK(std::bit_cast<std::uint32_t>(decode<float>(encode(nan))) == 0x7fc01234U);
  }

  TEST_CASE("integers of any width are accepted where their value fits") {
    for (const auto* const form : {"05", "cc05", "cd0005", "ce00000005", "cf0000000000000005",
                                   "d005", "d10005", "d200000005", "d30000000000000005"}) {
      CHECK(decode<std::uint8_t>(hex(form)) == 5);
      CHECK(decode<std::int8_t>(hex(form)) == 5);
      CHECK(decode<std::uint64_t>(hex(form)) == 5);
      CHECK(decode<long>(hex(form)) == 5);
      CHECK(decode<double>(hex(form)) == 5.0);
      CHECK(decode<float>(hex(form)) == 5.0F);
    }
    for (const auto* const form : {"d0fb", "d1fffb", "d2fffffffb", "d3fffffffffffffffb", "fb"}) {
      CHECK(decode<std::int8_t>(hex(form)) == -5);
      CHECK(decode<std::int64_t>(hex(form)) == -5);
      CHECK(decode<double>(hex(form)) == -5.0);
      CHECK(decode<shade>(hex(form)) == dark);
    }
    CHECK(decode<std::int64_t>(hex("d2ffffff7f")) == -129);
    CHECK(decode<std::uint64_t>(hex("cfffffffffffffffff")) ==
          std::numeric_limits<std::uint64_t>::max());
    CHECK(decode<double>(hex("cfffffffffffffffff")) == 18446744073709551615.0);
  }

  TEST_CASE("an integer out of range is refused, not cut") {
    CHECK(refusal<std::uint8_t>(hex("cd0100")) ==
          "expected an integer from 0 to 255 but found the integer 256 at offset 0");
    CHECK(refusal<std::uint8_t>(hex("ff")) ==
          "expected an integer from 0 to 255 but found the integer -1 at offset 0");
    CHECK(refusal<std::int8_t>(hex("cc80")) ==
          "expected an integer from -128 to 127 but found the integer 128 at offset 0");
    CHECK(refusal<std::int8_t>(hex("d1ff7f")) ==
          "expected an integer from -128 to 127 but found the integer -129 at offset 0");
    CHECK(refusal<std::int16_t>(hex("cd8000")) ==
          "expected an integer from -32768 to 32767 but found the integer 32768 at offset 0");
    CHECK(refusal<std::uint16_t>(hex("d1ffff")) ==
          "expected an integer from 0 to 65535 but found the integer -1 at offset 0");
    CHECK(refusal<std::int32_t>(hex("ce80000000")) ==
          "expected a signed integer of 32 bits but found the integer 2147483648 at offset 0");
    CHECK(refusal<std::uint32_t>(hex("cf0000000100000000")) ==
          "expected an unsigned integer of 32 bits but found the integer 4294967296 at offset 0");
    CHECK(refusal<std::int64_t>(hex("cf8000000000000000")) ==
          "expected a signed integer of 64 bits but found the integer 9223372036854775808 at "
          "offset 0");
    CHECK(refusal<std::uint64_t>(hex("d3ffffffffffffffff")) ==
          "expected an unsigned integer of 64 bits but found the integer -1 at offset 0");
    CHECK(refusal<color>(hex("cd0100")) ==
          "expected an integer from 0 to 255 but found the integer 256 at offset 0");
    CHECK(refusal<std::chrono::duration<std::int8_t>>(hex("cc80")) ==
          "expected an integer from -128 to 127 but found the integer 128 at offset 0");
  }

  TEST_CASE("a double becomes a float unless it is too large for one") {
    CHECK(decode<float>(hex("cb3fb999999999999a")) == 0.1F);
    CHECK(decode<double>(hex("ca3fc00000")) == 1.5);
    CHECK(std::isinf(decode<float>(hex("cb7ff0000000000000"))));
    CHECK(std::isnan(decode<float>(hex("cb7ff8000000000000"))));
    CHECK(refusal<float>(hex("cb7fefffffffffffff")) ==
          "expected a floating-point number of 32 bits but found a floating-point number at "
          "offset 0");
  }

  TEST_CASE("a refusal names what was expected, what was found and where") {
    CHECK(refusal<int>(hex("a161")) ==
          "expected a signed integer of 32 bits but found a string at offset 0");
    CHECK(refusal<std::string>(hex("07")) ==
          "expected a string but found the integer 7 at offset 0");
    CHECK(refusal<std::string>(hex("c40161")) ==
          "expected a string but found binary data at offset 0");
    CHECK(refusal<pulsar::bytes>(hex("a161")) ==
          "expected binary data but found a string at offset 0");
    CHECK(refusal<bool>(hex("c0")) == "expected a boolean but found nil at offset 0");
    CHECK(refusal<double>(hex("c3")) ==
          "expected a floating-point number but found a boolean at offset 0");
    CHECK(refusal<std::vector<int>>(hex("80")) == "expected an array but found a map at offset 0");
    CHECK(refusal<std::map<int, int>>(hex("90")) ==
          "expected a map but found an array at offset 0");
    CHECK(refusal<point>(hex("cb0000000000000000")) ==
          "expected an array or a map of fields but found a floating-point number at offset 0");
    CHECK(refusal<std::monostate>(hex("d40100")) ==
          "expected nil but found an extension at offset 0");
    CHECK(refusal<int>(hex("c1")) ==
          "expected a signed integer of 32 bits but found the reserved byte 0xc1 at offset 0");
    CHECK(refusal<int>({}) ==
          "expected a signed integer of 32 bits but found the end of the data at offset 0");
    CHECK(refusal<order>(hex("9607a4504c535207a178")) ==
          "expected a signed integer of 32 bits but found a string at offset 8");
    CHECK(refusal<std::string>(hex("d9ff6161")) ==
          "expected 255 bytes of a string but only 2 are left at offset 0");
    CHECK(refusal<int>(hex("ce0102")) ==
          "expected 4 bytes of an integer but only 2 are left at offset 0");
    CHECK(refusal<std::string>(hex("db00")) ==
          "expected 4 bytes of the length but only 1 are left at offset 0");
    CHECK(refusal<std::vector<int>>(hex("ddffffffff0102")) ==
          "expected 4294967295 elements of an array but only 2 bytes are left at offset 0");
    CHECK(refusal<int>(hex("0102")) ==
          "expected the end of the data but found 1 more bytes at offset 1");
  }

  TEST_CASE("the throwing form carries code and sentence") {
    try {
      static_cast<void>(decode<std::string>(hex("93")));
      FAIL("a malformed message was decoded");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == pulsar::errc::malformed);
      CHECK(std::string(e.what()) ==
            "expected a string but found an array at offset 0: malformed data");
    }
    CHECK(decode<int>(hex("05")) == 5);
  }

  TEST_CASE("every message that is cut short is refused, wherever the cut is") {
    check_every_cut(sample_of_everything());
    check_every_cut(sample_order());
    check_every_cut(std::map<std::string, std::vector<double>>{{"a", {1, 2}}, {"b", {}}});
    check_every_cut(std::tuple(std::int64_t{-70000000000}, std::string(300, 'x')));
    check_every_cut(date(2026, 320));
    const auto named = encode_named(sample_order());
    for (std::size_t n = 0; n < named.size(); ++n) {
      const pulsar::bytes cut(named.data(), named.data() + n);
      order back;
      CHECK(pulsar::try_decode(cut, back));
    }
  }

  TEST_CASE("an older reader skips fields that it does not know") {
    const auto out = encode(sample_order());
    const auto old = decode<shorter_order>(out);
    CHECK(old.id == 1234567890123);
    CHECK(old.symbol == "PLSR");
    longer_order longer;
    longer.tags = std::vector<std::uint32_t>(1000, 77);
    const auto again = decode<order>(encode(longer));
    CHECK(again.tags == longer.tags);
  }

  TEST_CASE("a newer reader keeps its defaults for fields that are missing") {
    const auto o = decode<longer_order>(encode(sample_order()));
    CHECK(o.symbol == "PLSR");
    CHECK(o.note == "fill or kill");
    CHECK(o.venue == "XETRA");
    CHECK(o.lots == 7);
    CHECK(decode<longer_order>(hex("90")).lots == 7);
  }

  TEST_CASE("what is skipped must be well-formed all the same") {
    for (const auto* const skipped : {"00",
                                      "ff",
                                      "80",
                                      "8101c3",
                                      "93010203",
                                      "a3616263",
                                      "c0",
                                      "c2",
                                      "c3",
                                      "c4020102",
                                      "c500020102",
                                      "c6000000020102",
                                      "c7020101 02",
                                      "c80002010102",
                                      "c900000002010102",
                                      "ca00000000",
                                      "cb0000000000000000",
                                      "cc01",
                                      "cd0001",
                                      "ce00000001",
                                      "cf0000000000000001",
                                      "d001",
                                      "d10001",
                                      "d200000001",
                                      "d30000000000000001",
                                      "d40100",
                                      "d5010000",
                                      "d60100000000",
                                      "d7010000000000000000",
                                      "d80100000000000000000000000000000000",
                                      "d90161",
                                      "da000161",
                                      "db0000000161",
                                      "dc0001c0",
                                      "dd00000001c0",
                                      "de00010102",
                                      "df000000010102",
                                      "9192939495969798a0c0c0c0c0c0c0c0c0"}) {
      CAPTURE(skipped);
      const auto tail = hex(skipped);
      auto in = hex("930102");
      in.insert(in.end(), tail.begin(), tail.end());
      point p;
      const auto failure = pulsar::try_decode(in, p);
      if (std::string_view(skipped).starts_with("9192")) {
        CHECK(failure);
        continue;
      }
      CHECK_FALSE(failure);
      CHECK(p == point{1, 2});
      for (std::size_t n = 3; n < in.size(); ++n) {
        const pulsar::bytes cut(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(n));
        CHECK(pulsar::try_decode(cut, p));
      }
    }
    CHECK(refusal<point>(hex("930102c1")) ==
          "expected a value but found the reserved byte 0xc1 at offset 3");
    CHECK(refusal<point>(hex("930102ddffffffff")) ==
          "expected 4294967295 elements of a container but only 0 bytes are left at offset 3");
    CHECK(refusal<point>(hex("930102c6ffffffff01")) ==
          "expected 4294967295 bytes of a value but only 1 are left at offset 3");
  }

  TEST_CASE("a tuple wants exactly its elements, and says so recognisably") {
    using arguments = std::tuple<std::string, int>;
    CHECK(decode<arguments>(hex("92a16105")) == arguments("a", 5));
    arguments out;
    auto failure = pulsar::try_decode(hex("91a161"), out);
    CHECK(failure.wrong_arity());
    CHECK(failure.code() == pulsar::errc::malformed);
    CHECK(failure.message() == "expected 2 arguments but got 1 at offset 0");
    failure = pulsar::try_decode(hex("93a1610506"), out);
    CHECK(failure.wrong_arity());
    CHECK(failure.message() == "expected 2 arguments but got 3 at offset 0");
    std::tuple<int> one;
    CHECK(pulsar::try_decode(hex("90"), one).message() ==
          "expected 1 argument but got 0 at offset 0");
    failure = pulsar::try_decode(hex("920505"), out);
    CHECK(failure);
    CHECK_FALSE(failure.wrong_arity());
    CHECK(refusal<std::pair<int, int>>(hex("9101")) ==
          "expected exactly 2 elements but found 1 at offset 0");
    CHECK(refusal<std::array<int, 3>>(hex("920102")) ==
          "expected exactly 3 elements but found 2 at offset 0");
    CHECK(refusal<std::array<std::byte, 3>>(hex("c4020102")) ==
          "expected exactly 3 bytes but found 2 at offset 0");
  }

  TEST_CASE("named structs are maps, and are read as well as arrays") {
    CHECK(hex(encode_named(point{1, 2})) == "82a17801a17902");
    CHECK(hex(encode_named(std::vector<point>{{1, 2}})) == "9182a17801a17902");
    CHECK(decode<order>(encode_named(sample_order())) == sample_order());
    const auto e = sample_of_everything();
    CHECK(decode<everything>(encode_named(e)) == e);
    CHECK(decode<labelled>(encode_named(labelled(7, "x"))) == labelled(7, "x"));
    CHECK(hex(encode_named(labelled(7, "x"))) == "82a2696407a3746167a178");
    CHECK(decode<std::vector<tree>>(encode_named(std::vector<tree>(3))).size() == 3);
  }

  TEST_CASE("fields of a map are found by name, in any order") {
    CHECK(decode<point>(hex("82a17902a17801")) == point{1, 2});
    CHECK(decode<point>(hex("81a17902")) == point{0, 2});
    CHECK(decode<point>(hex("80")) == point{});
    CHECK(decode<point>(hex("de0002a17902d9017801")) == point{1, 2});
  }

  TEST_CASE("unknown keys of a map are skipped with their values") {
    CHECK(decode<point>(hex("83a17a93010203a17801a17902")) == point{1, 2});
    CHECK(decode<point>(hex("8507c0c2a1789201a16105a17801a17902")) == point{1, 2});
    CHECK(refusal<point>(hex("81a17ac1")) ==
          "expected a value but found the reserved byte 0xc1 at offset 3");
  }

  TEST_CASE("a key given twice is refused") {
    CHECK(refusal<point>(hex("82a17801a17802")) == "a field occurs twice at offset 4");
    CHECK(refusal<std::map<int, int>>(hex("8201010102")) ==
          "a key of a map occurs twice at offset 3");
    CHECK(refusal<std::unordered_map<int, int>>(hex("8201010102")) ==
          "a key of a map occurs twice at offset 3");
    CHECK(refusal<std::set<int>>(hex("920101")) == "an element of a set occurs twice at offset 2");
    CHECK(decode<std::multiset<int>>(hex("920101")).size() == 2);
    CHECK(decode<std::multimap<int, int>>(hex("8201010102")).size() == 2);
  }

  TEST_CASE("keys that were chosen to have one hash are refused, and many keys are not") {
    constexpr std::uint64_t count = 1'000;
    std::unordered_set<std::uint64_t> room;
    room.reserve(count);
    std::set<std::uint64_t> chosen;
    std::map<std::uint64_t, int> chosen_map;
    std::set<std::uint64_t> harmless;
    for (std::uint64_t i = 0; i < count; ++i) {
      chosen.insert(i * room.bucket_count());
      chosen_map[i * room.bucket_count()] = 1;
      harmless.insert(i * 3);
    }
    const auto refused = [](const pulsar::buffer& data, auto out) {
      const auto bad = pulsar::try_decode(data.readable(), out);
      CHECK(bad.code() == pulsar::errc::malformed);
      return bad.message();
    };
    const std::string why = "more than 256 keys have one hash";
    CHECK(refused(encode(chosen), std::unordered_set<std::uint64_t>()).starts_with(why));
    CHECK(refused(encode(chosen_map), std::unordered_map<std::uint64_t, int>()).starts_with(why));
    CHECK(decode<std::unordered_set<std::uint64_t>>(encode(harmless)).size() == count);
    const std::vector<int> same(count, 7);
    CHECK(decode<std::unordered_multiset<int>>(encode(same)).size() == count);
  }

  TEST_CASE("a class whose hook gives no names has no named form, but reads arrays only") {
    CHECK(pulsar::encodable<account>);
    CHECK_FALSE(pulsar::named_encodable<account>);
    CHECK_FALSE(pulsar::named_encodable<std::vector<account>>);
    CHECK(refusal<account>(hex("80")) ==
          "expected an array or a map of fields but found a map at offset 0");
  }

  TEST_CASE("an absent value is nil, and a present nil is told apart from it") {
    CHECK(wire(std::optional<int>()) == "c0");
    CHECK(wire(std::optional<int>(5)) == "05");
    using twice = std::optional<std::optional<int>>;
    CHECK(wire(twice()) == "c0");
    CHECK(wire(twice(std::optional<int>())) == "91c0");
    CHECK(wire(twice(std::optional<int>(5))) == "9105");
    check_round_trip(twice());
    check_round_trip(twice(std::optional<int>()));
    check_round_trip(twice(std::optional<int>(5)));
    check_round_trip(std::optional<std::monostate>());
    check_round_trip(std::optional<std::monostate>(std::monostate()));
    check_round_trip(std::vector<std::optional<std::vector<int>>>{{}, std::vector<int>{1}});
    check_round_trip(std::optional<date>());
    check_round_trip(std::optional<date>(date(1, 2)));
    CHECK(refusal<twice>(hex("9205c0")) == "expected exactly 1 element but found 2 at offset 0");
    const auto pointer =
        decode<std::unique_ptr<std::string>>(encode(std::make_unique<std::string>("x")));
    CHECK(*pointer == "x");
    CHECK(decode<std::unique_ptr<int>>(hex("c0")) == nullptr);
  }

  TEST_CASE("a variant is its index and its value") {
    using value = std::variant<int, std::string, int, std::vector<int>>;
    CHECK(wire(value(std::in_place_index<0>, 5)) == "920005");
    CHECK(wire(value(std::in_place_index<2>, 5)) == "920205");
    CHECK(wire(value("x")) == "9201a178");
    check_round_trip(value(std::in_place_index<2>, 5));
    check_round_trip(value(std::vector<int>{1, 2}));
    CHECK(refusal<value>(hex("920405")) ==
          "expected the index of an alternative below 4 but found 4 at offset 1");
    CHECK(refusal<value>(hex("9101")) ==
          "expected exactly 2 elements of a variant but found 1 at offset 0");
    CHECK(refusal<value>(hex("9200a178")) ==
          "expected a signed integer of 32 bits but found a string at offset 2");
  }

  TEST_CASE("a variant that lost its value cannot be encoded, and the buffer stays as it was") {
    struct holder {
      std::string before = "written first";
      std::variant<std::string, order> value;
    } h;
    struct bomb {
      operator order() const { throw std::runtime_error("no value"); }
    };
    CHECK_THROWS_AS(h.value.emplace<1>(bomb{}), std::runtime_error);
    REQUIRE(h.value.valueless_by_exception());
    pulsar::buffer out;
    out.append("header");
    try {
      encode(out, h);
      FAIL("a variant without a value was encoded");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == pulsar::errc::not_encodable);
    }
    CHECK(out.text() == "header");
  }

  TEST_CASE("error codes keep their category where it is known") {
    check_round_trip(std::error_code());
    check_round_trip(std::make_error_code(std::errc::broken_pipe));
    check_round_trip(std::error_code(111, std::system_category()));
    check_round_trip(pulsar::make_error_code(pulsar::errc::mailbox_full));

    static const own_category unknown("codec_test.unknown");
    const auto foreign = decode<std::error_code>(encode(std::error_code(42, unknown)));
    CHECK(foreign.value() == 42);
    CHECK(std::string(foreign.category().name()) == "foreign");
    CHECK(foreign.message() == "error 42 of a category that this program does not know");

    static const own_category added("codec_test.added");
    pulsar::add_error_category(added);
    check_round_trip(std::error_code(42, added));
    CHECK(refusal<std::error_code>(hex("91a178")) ==
          "expected exactly 2 elements of an error code but found 1 at offset 0");
  }

  TEST_CASE("time travels as a count in its own unit") {
    using namespace std::chrono_literals;
    check_round_trip(std::chrono::nanoseconds(-5ns));
    check_round_trip(std::chrono::duration<double, std::milli>(1.25));
    check_round_trip(std::chrono::steady_clock::now());
    CHECK(wire(std::chrono::milliseconds(1500ms)) == "cd05dc");
    CHECK(decode<std::chrono::milliseconds>(hex("05")) == 5ms);
  }

  TEST_CASE("strings need not be text") {
    std::string any;
    for (int i = 0; i < 256; ++i) any += static_cast<char>(i);
    check_round_trip(any);
    check_round_trip(std::map<std::string, std::string>{{any, any}, {"", ""}});
  }

  TEST_CASE("containers and optionals that held something before are replaced") {
    std::vector<int> numbers{1, 2, 3, 4, 5};
    CHECK_FALSE(pulsar::try_decode(hex("920708"), numbers));
    CHECK(numbers == std::vector<int>{7, 8});
    std::vector<std::string> words{"a", "b", "c"};
    CHECK_FALSE(pulsar::try_decode(hex("91a178"), words));
    CHECK(words == std::vector<std::string>{"x"});
    std::map<int, int> table{{1, 1}};
    CHECK_FALSE(pulsar::try_decode(hex("810203"), table));
    CHECK(table == std::map<int, int>{{2, 3}});
    std::optional<std::string> note("old");
    CHECK_FALSE(pulsar::try_decode(hex("c0"), note));
    CHECK_FALSE(note);
    std::set<int> set{9};
    CHECK_FALSE(pulsar::try_decode(hex("9101"), set));
    CHECK(set == std::set<int>{1});
  }

  TEST_CASE("a type that contains itself travels through vectors and pointers") {
    tree t;
    t.value = 1;
    t.children.resize(2);
    t.children[1].value = 2;
    t.next = std::make_unique<tree>();
    t.next->value = 3;
    const auto back = decode<tree>(encode(t));
    CHECK(back.children.size() == 2);
    CHECK(back.children[1].value == 2);
    CHECK(back.next->value == 3);
    CHECK(back.next->next == nullptr);
  }

  TEST_CASE("nesting is bounded on both sides, at the same depth") {
    const auto chain = [](int levels) {
      tree root;
      tree* at = &root;
      for (int i = 1; i < levels; ++i) {
        at->next = std::make_unique<tree>();
        at = at->next.get();
      }
      return root;
    };
    // The innermost struct holds an empty vector: one level more.
    const auto deepest = encode(chain(63));
    CHECK_FALSE(pulsar::try_decode(deepest, *std::make_unique<tree>()));
    pulsar::buffer out;
    try {
      encode(out, chain(64));
      FAIL("a value that nobody takes was encoded");
    } catch (const pulsar::error& e) {
      CHECK(e.code() == pulsar::errc::too_large);
    }
    CHECK(out.empty());

    std::string digits;
    for (int i = 0; i < 100000; ++i) digits += "930090";
    tree t;
    auto failure = pulsar::try_decode(hex(digits), t);
    CHECK(failure.code() == pulsar::errc::too_large);
    CHECK(failure.message() == "nested deeper than 64 levels at offset 191");

    chain_link first(0);
    chain_link* last = &first;
    for (int i = 1; i < 40; ++i) {
      last->next = std::make_unique<chain_link>(i);
      last = last->next.get();
    }
    CHECK_THROWS_AS(static_cast<void>(encode(first)), pulsar::error);
  }

  TEST_CASE("nesting is bounded in what is skipped, too") {
    point p;
    // The struct itself is the first level.
    CHECK_FALSE(pulsar::try_decode(hex("930102" + nested_arrays(63)), p));
    const auto failure = pulsar::try_decode(hex("930102" + nested_arrays(64)), p);
    CHECK(failure.code() == pulsar::errc::too_large);
    CHECK(pulsar::try_decode(hex("930102" + nested_arrays(1'000'000)), p));
  }

  TEST_CASE("a claimed length reserves no more than what has arrived can hold") {
    using watched = std::vector<large_element, watching_allocator<large_element>>;
    largest_request = 0;
    watched out;
    CHECK(pulsar::try_decode(hex("ddffffffff90909090"), out));
    CHECK(largest_request == 0);

    // Enough bytes for the claim, but nothing that decodes.
    pulsar::bytes long_claim = hex("dd000186a0");
    long_claim.resize(long_claim.size() + 100'000, std::byte{0xc1});
    CHECK(pulsar::try_decode(long_claim, out));
    CHECK(largest_request <= 64 * sizeof(large_element));

    std::basic_string<char, std::char_traits<char>, watching_allocator<char>> text;
    largest_request = 0;
    CHECK(pulsar::try_decode(hex("dbffffffff61"), text));
    CHECK(largest_request == 0);
  }

  TEST_CASE("messages and the memory they ask for are limited") {
    CHECK(refusal<std::string>(hex("a3616263"), {.size = 3}) ==
          "4 bytes are more than the limit of 3");
    CHECK_FALSE(pulsar::try_decode(hex("a3616263"), *std::make_unique<std::string>(), {.size = 4}));
    std::vector<large_element> out;
    auto in = hex("dc03e8");
    in.resize(in.size() + 1000, std::byte{0x90});
    CHECK_FALSE(pulsar::try_decode(in, out));
    CHECK(out.size() == 1000);
    const auto failure = pulsar::try_decode(in, out, {.memory = 100'000});
    CHECK(failure.code() == pulsar::errc::too_large);
    CHECK(failure.message() ==
          "decoding would take more than the limit of 100000 bytes of memory at offset 0");
    CHECK(refusal<std::vector<std::unique_ptr<large_element>>>(hex("939090c0"), {.memory = 400}) ==
          "decoding would take more than the limit of 400 bytes of memory at offset 2");
    CHECK(refusal<std::set<std::uint64_t>>(hex("93010203"), {.memory = 100}) ==
          "decoding would take more than the limit of 100 bytes of memory at offset 0");
    CHECK(refusal<std::map<int, int>>(hex("8301010202c0c0"), {.memory = 100}) ==
          "decoding would take more than the limit of 100 bytes of memory at offset 0");
  }

  TEST_CASE("a type may travel through functions of its own") {
    CHECK(wire(date(2026, 320)) == "a8323032362f333230");
    check_round_trip(date(2026, 320));
    check_round_trip(std::map<std::string, std::vector<date>>{{"x", {date(1, 2), date(3, 4)}}});
    check_round_trip(std::vector<range_of<int>>(100, range_of<int>(-5, 70000)));
    check_round_trip(range_of<std::string>(std::string(500, 'a'), "z"));
    CHECK(refusal<std::vector<date>>(hex("92a3312f32a161")) ==
          "expected a date but found a string at offset 5");
    CHECK(refusal<date>(hex("05")) == "expected a string but found the integer 5 at offset 0");
    CHECK(refusal<range_of<int>>(hex("93010203")) ==
          "expected a range of two but found an array at offset 0");
    CHECK(hex(encode_named(range_of<int>(1, 2))) == "82a466726f6d01a2746f02");
    chain_link l(1);
    l.next = std::make_unique<chain_link>(2);
    CHECK(wire(l) == "9201919202c0");
    CHECK(decode<chain_link>(encode(l)).next->value == 2);
    CHECK(wire(shout()) == "a121");
    CHECK(pulsar::encodable<shout>);
    CHECK_FALSE(pulsar::decodable<shout>);
  }

  TEST_CASE("extensions carry bytes of any length") {
    stamp s;
    s.seconds = 1'700'000'000;
    CHECK(wire(s) == "d6ff6553f100");
    CHECK(decode<stamp>(encode(s)).seconds == 1'700'000'000);
    CHECK(refusal<stamp>(hex("d7ff0000000000000000")) ==
          "expected a timestamp but found an extension at offset 0");
    CHECK(refusal<stamp>(hex("d6ff6553f1")) ==
          "expected 5 bytes of an extension but only 4 are left at offset 0");
    CHECK(refusal<stamp>(hex("c9ffffffffff")) ==
          "expected 4294967296 bytes of an extension but only 1 are left at offset 0");
    for (const auto* const other :
         {"c70401 00000001", "c8000401 00000001", "c900000004ff00000001"}) {
      std::int8_t type = 0;
      std::span<const std::byte> data;
      const auto in = hex(other);
      pulsar::decoder from(in);
      CHECK(from.read_extension(type, data));
      CHECK(data.size() == 4);
      CHECK(data[3] == std::byte{1});
      CHECK(from.rest().empty());
    }
  }

  TEST_CASE("a decoder reads values that follow each other and leaves the rest") {
    pulsar::buffer frame;
    encode(frame, point{1, 2});
    encode(frame, std::string("text"));
    encode(frame, hex("0102"));
    encode(frame, std::optional<int>());
    encode(frame, std::vector<int>{4, 5});
    encode(frame, std::map<int, int>{{6, 7}});
    frame.append("payload");

    pulsar::decoder in(frame);
    point p;
    CHECK(in.read(p));
    CHECK(p == point{1, 2});
    std::string_view text;
    CHECK(in.read_text(text));
    CHECK(text == "text");
    CHECK(static_cast<const void*>(text.data()) > frame.data());
    CHECK(static_cast<const void*>(text.data()) < frame.end());
    std::span<const std::byte> raw;
    CHECK(in.read_binary(raw));
    CHECK(hex(raw) == "0102");
    CHECK(in.read_nil());
    CHECK_FALSE(in.read_nil());
    CHECK_FALSE(in.failure());
    std::size_t n = 0;
    CHECK(in.read_array(n));
    CHECK(n == 2);
    CHECK(in.skip());
    int five = 0;
    CHECK(in.read(five));
    CHECK(five == 5);
    CHECK(in.read_map(n));
    CHECK(n == 1);
    CHECK(in.skip());
    CHECK(in.skip());
    CHECK(std::string_view(reinterpret_cast<const char*>(in.rest().data()), in.rest().size()) ==
          "payload");
  }

  TEST_CASE("after a failure a decoder keeps failing with the first reason") {
    const auto data = hex("0102a161");
    pulsar::decoder in(data);
    int i = 0;
    std::string s;
    CHECK(in.read(i));
    CHECK_FALSE(in.read(s));
    CHECK_FALSE(in.read(i));
    CHECK_FALSE(in.skip());
    CHECK_FALSE(in.read_nil());
    CHECK_FALSE(in.fail("something else"));
    CHECK(in.rest().empty());
    CHECK(in.failure().offset() == 1);
    CHECK(in.failure().message() == "expected a string but found the integer 2 at offset 1");
    CHECK(in.failure().to_error().code() == pulsar::errc::malformed);
    CHECK(std::string(in.failure().to_error().what()).starts_with("expected a string"));
    pulsar::decoder limited(data, {.size = 3});
    CHECK_FALSE(limited.read(i));
    CHECK(limited.failure().code() == pulsar::errc::too_large);
  }

  TEST_CASE("encoding appends, so that a header can be patched in afterwards") {
    pulsar::buffer out;
    out.append("used before");
    out.consume(5);
    const auto mark = out.size();
    out.append("____");
    std::vector<std::string> words(2000, "some words that make the buffer grow");
    encode(out, words);
    std::memcpy(out.data() + mark, "HEAD", 4);
    CHECK(out.text().substr(0, 10) == "beforeHEAD");
    CHECK(decode<std::vector<std::string>>(out.readable().subspan(10)) == words);
  }

  TEST_CASE("functions beside a type that happen to have the codec's names are left alone") {
    greedy::item item;
    item.more.resize(2);
    item.more[1].value = 5;
    CHECK(decode<greedy::item>(pulsar::encode(item)).more[1].value == 5);
    CHECK(decode<greedy::item>(encode_named(item)).more[1].value == 5);
  }

  TEST_CASE("a type without fields is an empty array") {
    struct empty {
      bool operator==(const empty&) const = default;
    };
    check_round_trip(empty());
    check_round_trip(std::vector<empty>(3));
    CHECK(decode<empty>(hex("930102a161")) == empty());
    CHECK(decode<empty>(hex("81a16101")) == empty());
  }

  TEST_CASE("concepts tell what travels without a hard error") {
    CHECK(pulsar::encodable<order>);
    CHECK(pulsar::decodable<order>);
    pulsar::assert_encodable<const order&>();
    pulsar::assert_decodable<order>();
    CHECK(pulsar::encodable<const order&>);
    CHECK_FALSE(pulsar::decodable<order&>);
    CHECK(pulsar::encodable<tree>);
    CHECK(pulsar::decodable<tree>);
    CHECK(pulsar::decodable<everything>);
    CHECK(pulsar::named_encodable<everything>);
    CHECK(pulsar::encodable<std::string_view>);
    CHECK_FALSE(pulsar::decodable<std::string_view>);
    CHECK(pulsar::encodable<with_view>);
    CHECK_FALSE(pulsar::decodable<with_view>);
    CHECK_FALSE(pulsar::decodable<std::span<int>>);
    CHECK_FALSE(pulsar::encodable<int*>);
    CHECK_FALSE(pulsar::encodable<const char*>);
    CHECK_FALSE(pulsar::encodable<int[3]>);
    CHECK_FALSE(pulsar::encodable<void>);
    CHECK_FALSE(pulsar::encodable<void()>);
    CHECK_FALSE(pulsar::encodable<long double>);
    CHECK_FALSE(pulsar::encodable<std::function<void()>>);
    CHECK_FALSE(pulsar::encodable<std::shared_ptr<int>>);
    CHECK_FALSE(pulsar::encodable<std::unique_ptr<int[]>>);
    CHECK_FALSE(pulsar::encodable<std::filesystem::path>);
    CHECK_FALSE(pulsar::encodable<std::u16string_view>);
    CHECK_FALSE(pulsar::encodable<opaque>);
    CHECK_FALSE(pulsar::encodable<with_opaque>);
    CHECK_FALSE(pulsar::encodable<with_pointer>);
    CHECK_FALSE(pulsar::encodable<with_array>);
    CHECK_FALSE(pulsar::encodable<std::tuple<int, std::optional<opaque>>>);
    CHECK_FALSE(pulsar::encodable<std::variant<int, opaque>>);
    CHECK_FALSE(pulsar::encodable<std::map<opaque*, int>>);
    CHECK_FALSE(pulsar::encodable<std::chrono::duration<long double>>);
  }
}
