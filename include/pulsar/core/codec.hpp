// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// MessagePack from plain C++ values and back.
///
///     struct order {
///       std::uint64_t id = 0;
///       std::string symbol;
///       std::optional<std::string> note;
///     };
///
///     pulsar::buffer out;
///     encode(out, order{7, "PLSR", {}});               // an array: [7, "PLSR", nil]
///     auto o = pulsar::decode<order>(out);             // throws error(errc::malformed)
///
/// What travels: `bool`, integers, enums, `float` and `double`, `std::string`, `bytes` (binary
/// data, as all contiguous `std::byte`, `unsigned char` and `char`), `std::array`, sequences, sets
/// and maps, `std::pair`, `std::tuple`, `std::optional`, `std::unique_ptr` (nil or a value),
/// `std::variant` (an array of index and value), durations and time points (a count in their own
/// unit), `std::error_code` (an array of category and value), `std::monostate` and `nullptr` (nil),
/// and every reflectable struct of these, itself included. `std::string_view` and `std::span` can
/// be encoded only.
///
/// A struct is an array of its fields. A reader with more fields than the writer keeps the defaults
/// of those at the end, one with fewer skips the rest: new fields go last. `encode_named` writes a
/// map with the fields' names for readers in other languages; decoding takes both forms, unknown
/// names are skipped. A `std::tuple` (the arguments of a command) must have exactly its arity.
///
/// Any other type travels through two functions beside it, found by argument-dependent look-up:
///
///     class date {
///      public:
///       friend void pulsar_encode(pulsar::encoder& out, const date& d) { out.write(d.text()); }
///       friend bool pulsar_decode(pulsar::decoder& in, date& d) {
///         std::string text;
///         return in.read(text) && (d.parse(text) || in.fail("a date"));
///       }
///       ...
///
/// They are plain functions, not templates; in a class template they are friends defined in it.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/detail/codec_check.hpp>
#include <pulsar/core/detail/codec_decode.hpp>
#include <pulsar/core/detail/codec_encode.hpp>
#include <pulsar/core/detail/codec_format.hpp>
#include <pulsar/core/detail/codec_read.hpp>
#include <pulsar/core/detail/codec_source.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/reflect.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace pulsar {

/// Types that `encode` takes.
template <class T>
concept encodable = detail::codec::travels<std::remove_cvref_t<T>, detail::codec::purpose::encode>;

/// Types that `encode_named` takes: every struct in them has names for its fields.
template <class T>
concept named_encodable =
    detail::codec::travels<std::remove_cvref_t<T>, detail::codec::purpose::encode_named>;

/// Types that `decode` returns.
template <class T>
concept decodable =
    !std::is_reference_v<T> && detail::codec::travels<T, detail::codec::purpose::decode>;

/// Does nothing for an encodable T; for any other one the compiler says which part of it cannot
/// travel, why, and what to do about it. For interfaces that take arguments of any type.
template <class T>
constexpr void assert_encodable() {
  detail::codec::assert_travels<std::remove_cvref_t<T>, detail::codec::purpose::encode>();
}

/// The same for a decodable T.
template <class T>
constexpr void assert_decodable() {
  detail::codec::assert_travels<T, detail::codec::purpose::decode>();
}

/// The most levels of arrays and maps in each other that are encoded and decoded.
inline constexpr unsigned max_codec_depth = detail::codec::max_depth;

/// What a decoder accepts.
struct decode_limits {
  /// Bytes of the message.
  std::size_t size = std::size_t{64} << 20;
  /// Bytes of memory for the elements of containers, which may be larger than what encodes them.
  std::size_t memory = std::size_t{1} << 30;
};

/// Why a value could not be decoded; nothing, if it could. Costs no memory until `message()`.
class decode_failure {
 public:
  decode_failure() noexcept = default;
  explicit decode_failure(const detail::codec::fault& why) noexcept : fault_(why) {}

  /// Whether there was a failure.
  explicit operator bool() const noexcept { return fault_.what != detail::codec::fault_kind::none; }
  /// `errc::malformed`, or `errc::too_large` where a limit is exceeded.
  errc code() const noexcept { return fault_.code; }
  /// The byte where the offending value begins.
  std::size_t offset() const noexcept { return fault_.offset; }
  /// Whether a tuple had another number of elements: a command called with too few or too many
  /// arguments.
  bool wrong_arity() const noexcept { return fault_.what == detail::codec::fault_kind::arity; }
  /// "expected a string but found the integer 7 at offset 12".
  std::string message() const { return detail::codec::explain(fault_); }
  /// The failure as an exception to throw.
  error to_error() const { return error(code(), message()); }

 private:
  detail::codec::fault fault_;
};

// -- user types --------------------------------------------------------------

/// What `pulsar_encode` writes to; exactly one value must be written.
class encoder {
 public:
  encoder(const encoder&) = delete;
  encoder& operator=(const encoder&) = delete;

  /// Writes any encodable value. Throws `errc::too_large`.
  template <class T>
  void write(const T& value) {
    using enum detail::codec::form;
    if (named_) {
      if constexpr (named_encodable<T>) return put<named>(value);
    }
    if constexpr (encodable<T>) {
      put<positional>(value);
    } else {
      detail::codec::assert_travels<T, detail::codec::purpose::encode>();
    }
  }

  /// Begins an array: `n` values follow and make one value with it.
  void write_array(std::size_t n) {
    p_ = detail::codec::put_array_header(sink_.ensure(p_, 5 + room_), n);
  }
  /// Begins a map: `n` times a key and a value follow and make one value with it.
  void write_map(std::size_t n) {
    p_ = detail::codec::put_map_header(sink_.ensure(p_, 5 + room_), n);
  }
  /// Writes MessagePack's extension type `type`; negative ones belong to MessagePack.
  void write_extension(std::int8_t type, std::span<const std::byte> data) {
    p_ = detail::codec::put_extension(sink_, p_, type, data.data(), data.size(), room_);
  }

  /// Whether structs are written as maps with names: for a foreign reader.
  bool named() const noexcept { return named_; }

 private:
  template <detail::codec::form F, class T>
  friend std::byte* detail::codec::put_custom(
      detail::codec::sink&, std::byte*, const T&, std::size_t, unsigned);

  encoder(
      detail::codec::sink& to, std::byte* p, std::size_t room, unsigned depth, bool named) noexcept
      : sink_(to), p_(p), room_(room), depth_(depth), named_(named) {}

  template <detail::codec::form F, class T>
  void put(const T& value) {
    p_ = sink_.ensure(p_, detail::codec::room_for<F, T> + room_);
    p_ = detail::codec::encode_value<F>(sink_, p_, value, room_, depth_);
  }

  detail::codec::sink& sink_;
  std::byte* p_;
  std::size_t room_;
  unsigned depth_;
  bool named_;
};

/// What `pulsar_decode` reads from; also reads several values that follow each other:
///
///     pulsar::decoder in(frame);
///     header h;
///     if (!in.read(h)) throw in.failure().to_error();
///     deliver(h, in.rest());
///
/// After a failure every further read fails and the first failure stands.
class decoder {
 public:
  explicit decoder(std::span<const std::byte> in, decode_limits limits = {}) noexcept
      : own_(in.data(), in.size(), limits.memory), source_(&own_), p_(own_.start(limits.size)) {}
  decoder(const decoder&) = delete;
  decoder& operator=(const decoder&) = delete;

  /// Reads one value of type T into `out`; false if there is none.
  template <class T>
  bool read(T& out) {
    if constexpr (decodable<T>) {
      return advance(p_ == nullptr ? nullptr
                                   : detail::codec::decode_value(*source_, p_, out, depth_));
    } else {
      detail::codec::assert_travels<T, detail::codec::purpose::decode>();
      return false;
    }
  }

  /// Reads a string without copying it: `out` points into the message.
  bool read_text(std::string_view& out) {
    return advance(p_ == nullptr ? nullptr : detail::codec::get_text(*source_, p_, out));
  }
  /// Reads binary data without copying it: `out` points into the message.
  bool read_binary(std::span<const std::byte>& out) {
    const std::byte* data = nullptr;
    std::size_t n = 0;
    if (!advance(p_ == nullptr ? nullptr : detail::codec::get_binary_span(*source_, p_, data, n))) {
      return false;
    }
    out = {data, n};
    return true;
  }
  /// Reads an extension without copying it: `out` points into the message.
  bool read_extension(std::int8_t& type, std::span<const std::byte>& out) {
    const std::byte* data = nullptr;
    std::size_t n = 0;
    if (!advance(p_ == nullptr ? nullptr
                               : detail::codec::get_extension(*source_, p_, type, data, n))) {
      return false;
    }
    out = {data, n};
    return true;
  }
  /// Reads the head of an array; `n` values follow.
  bool read_array(std::size_t& n) {
    return advance(p_ == nullptr ? nullptr : detail::codec::get_array(*source_, p_, n, depth_));
  }
  /// Reads the head of a map; `n` times a key and a value follow.
  bool read_map(std::size_t& n) {
    return advance(p_ == nullptr ? nullptr : detail::codec::get_map_count(*source_, p_, n, depth_));
  }
  /// Passes over a nil; false, and no failure, if something else is next.
  bool read_nil() noexcept {
    const bool nil =
        p_ != nullptr && p_ != source_->end && detail::codec::tag_at(p_) == detail::codec::tag::nil;
    return nil && advance(p_ + 1);
  }
  /// Passes over one value, whatever it is.
  bool skip() {
    return advance(p_ == nullptr ? nullptr : detail::codec::skip(*source_, p_, depth_));
  }

  /// Refuses the value that was read last: "expected `expected` but found ...". Always false, so
  /// that `return parse(text) || in.fail("a date");` reads well. `expected` must be a literal.
  bool fail(const char* expected) noexcept { return advance(source_->fail_type(last_, expected)); }

  /// What went wrong first.
  decode_failure failure() const noexcept { return decode_failure(source_->problem); }
  /// The bytes that are not read yet; none after a failure.
  std::span<const std::byte> rest() const noexcept {
    if (p_ == nullptr) return {};
    return {p_, source_->left(p_)};
  }

 private:
  template <class T>
  friend const std::byte* detail::codec::get_custom(detail::codec::source&,
                                                    const std::byte*,
                                                    T&,
                                                    unsigned);

  decoder(detail::codec::source& from, const std::byte* p, unsigned depth) noexcept
      : own_(nullptr, 0, 0), source_(&from), p_(p), last_(p), depth_(depth) {}

  bool advance(const std::byte* to) noexcept {
    if (to != nullptr) last_ = p_;
    p_ = to;
    return to != nullptr;
  }

  detail::codec::source own_;
  detail::codec::source* source_;
  const std::byte* p_;
  const std::byte* last_ = p_;
  unsigned depth_ = 0;
};

namespace detail::codec {

template <form F, class T>
std::byte* put_custom(sink& s, std::byte* p, const T& value, std::size_t room, unsigned depth) {
  enter_level(depth);
  encoder out(s, p, room, depth + 1, F == form::named);
  pulsar_encode(out, value);
  return out.p_;
}

template <class T>
const std::byte* get_custom(source& s, const std::byte* p, T& out, unsigned depth) {
  if (depth >= max_depth) return s.fail(p, fault_kind::depth, "");
  decoder in(s, p, depth + 1);
  if (!pulsar_decode(in, out)) in.fail("a value of another form");
  return in.p_;
}

}  // namespace detail::codec

/// Lets `std::error_code`s of `category` be decoded; it must live until the program ends. Those of
/// the standard library and of pulsar are known; a code of any other category arrives with its
/// value, in a category named "foreign". Any thread.
inline void add_error_category(const std::error_category& category) {
  detail::codec::add_category(category);
}

// -- whole values ------------------------------------------------------------

/// Appends `value` to `out`, structs as arrays. No part of `value` may lie in `out`, which grows.
///
/// Throws `errc::too_large` for what no decoder would take and `errc::not_encodable` for a variant
/// without a value; `out` is then as it was.
template <class T>
void encode(buffer& out, const T& value) {
  if constexpr (encodable<T>) {
    detail::codec::encode_as<detail::codec::form::positional>(out, value);
  } else {
    detail::codec::assert_travels<T, detail::codec::purpose::encode>();
  }
}

/// Returns `value` encoded.
template <class T>
[[nodiscard]] buffer encode(const T& value) {
  buffer out;
  pulsar::encode(out, value);
  return out;
}

/// Appends `value` to `out`, structs as maps with the names of their fields. Throws as `encode`.
template <class T>
void encode_named(buffer& out, const T& value) {
  if constexpr (named_encodable<T>) {
    detail::codec::encode_as<detail::codec::form::named>(out, value);
  } else {
    detail::codec::assert_travels<T, detail::codec::purpose::encode_named>();
  }
}

/// Returns `value` encoded with names.
template <class T>
[[nodiscard]] buffer encode_named(const T& value) {
  buffer out;
  pulsar::encode_named(out, value);
  return out;
}

/// Decodes `in`, which must hold one value and nothing behind it, into `out`.
///
/// Returns what went wrong; `out` then holds whatever was read before. Throws only what the
/// memory of `out` throws.
template <class T>
[[nodiscard]] decode_failure try_decode(std::span<const std::byte> in,
                                        T& out,
                                        decode_limits limits = {}) {
  if constexpr (decodable<T>) {
    detail::codec::source from(in.data(), in.size(), limits.memory);
    detail::codec::decode_whole(from, out, limits.size);
    return decode_failure(from.problem);
  } else {
    detail::codec::assert_travels<T, detail::codec::purpose::decode>();
    return {};
  }
}

/// Returns the value that `in` holds.
///
/// Throws `errc::malformed` or, beyond `limits`, `errc::too_large`, with a sentence that says what
/// was expected, what was found, and where.
template <class T>
[[nodiscard]] T decode(std::span<const std::byte> in, decode_limits limits = {}) {
  if constexpr (decodable<T>) {
    T out{};
    detail::codec::source from(in.data(), in.size(), limits.memory);
    if (!detail::codec::decode_whole(from, out, limits.size))
      detail::codec::throw_fault(from.problem);
    return out;
  } else {
    detail::codec::assert_travels<T, detail::codec::purpose::decode>();
    std::abort();
  }
}

}  // namespace pulsar
