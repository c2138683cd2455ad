// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What the parser knows of a message: offsets from the first byte of its buffer, so that moving
// the buffer changes one pointer, not a hundred views.

#include <pulsar/apps/http/method.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <vector>

namespace pulsar::http::detail {

struct field_span {
  std::uint32_t name;
  std::uint32_t name_size;
  std::uint32_t value;
  std::uint32_t value_size;
};

// The first 32 need no allocation; what a larger message has allocated is kept for the next one.
class field_table {
 public:
  std::uint32_t size() const noexcept { return size_; }
  const field_span* data() const noexcept { return spilled_ ? far_.data() : near_.data(); }
  const field_span& back() const noexcept { return data()[size_ - 1]; }

  void clear() noexcept {
    size_ = 0;
    spilled_ = false;
    far_.clear();
  }

  // The way around `push`: as many as fit without allocation are put first and counted then.
  std::uint32_t capacity() const noexcept {
    return spilled_ ? 0 : static_cast<std::uint32_t>(near_.size());
  }
  void put(std::uint32_t place, const field_span& span) noexcept { near_[place] = span; }
  void resize(std::uint32_t size) noexcept { size_ = size; }

  // False if there is no memory.
  [[nodiscard]] bool push(const field_span& span) noexcept {
    if (size_ < near_.size()) [[likely]] {
      near_[size_] = span;
    } else if (!spill(span)) {
      return false;
    }
    ++size_;
    return true;
  }

 private:
  bool spill(const field_span& span) noexcept {
    try {
      if (!spilled_) far_.assign(near_.begin(), near_.end());
      far_.push_back(span);
      spilled_ = true;
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  std::uint32_t size_ = 0;
  bool spilled_ = false;
  std::array<field_span, 32> near_;
  std::vector<field_span> far_;
};

struct text_span {
  std::uint32_t at = 0;
  std::uint32_t size = 0;
};

// The headers that decide over the message or the connection, and those often asked for.
enum class known : std::uint8_t { host, content_length, content_type, transfer_encoding, upgrade };
inline constexpr std::size_t known_count = 5;

struct message_head {
  const char* base = nullptr;
  http::method verb = method::unknown;
  http::version version = http::version::http_1_1;
  bool keep_alive = false;
  bool chunked = false;
  bool expects_continue = false;
  bool wants_upgrade = false;
  text_span method_name;
  text_span target;
  text_span path;
  text_span query;
  text_span authority;                                // of a target in absolute or authority form
  std::uint32_t header_count = 0;                     // the fields behind these are trailers
  std::array<std::uint32_t, known_count> known_at{};  // place in `fields` + 1, 0 = absent
  std::uint64_t content_length = 0;
  std::size_t body = 0;
  std::size_t body_size = 0;
  field_table fields;

  std::string_view text(text_span span) const noexcept { return {base + span.at, span.size}; }

  std::string_view value(known which) const noexcept {
    const std::uint32_t place = known_at[static_cast<std::size_t>(which)];
    if (place == 0) return {};
    const field_span& span = fields.data()[place - 1];
    return {base + span.value, span.value_size};
  }

  bool has(known which) const noexcept { return known_at[static_cast<std::size_t>(which)] != 0; }

  void clear() noexcept {
    verb = method::unknown;
    version = http::version::http_1_1;
    keep_alive = chunked = expects_continue = wants_upgrade = false;
    method_name = target = path = query = authority = text_span();
    header_count = 0;
    known_at = {};
    content_length = 0;
    body = body_size = 0;
    fields.clear();
  }
};

}  // namespace pulsar::http::detail
