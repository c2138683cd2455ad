// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Headers: `header_list`, those a peer sent, as views; `header_block`, those to send, as text.
///
///     for (const auto [name, value] : request.headers()) fmt::print("{}: {}\n", name, value);
///     auto agent = request.headers().find("user-agent");   // std::optional<std::string_view>
///
///     http::header_block block;
///     block.add("Set-Cookie", "a=1");
///     block.add("Set-Cookie", "b=2");
///
/// Names are compared without regard to case, keep the case they were written in, and keep their
/// order. Nothing that is not one header line can get into a `header_block`.

#include <pulsar/apps/http/detail/message_head.hpp>
#include <pulsar/apps/http/detail/scan.hpp>
#include <pulsar/apps/http/error.hpp>
#include <pulsar/core/error.hpp>

#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar::http {

/// One header line, without the blanks around its value.
struct header {
  std::string_view name;
  std::string_view value;
};

/// True if the two differ at most in the case of ASCII letters.
constexpr bool iequals(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && detail::to_lower(a[i]) != detail::to_lower(b[i])) return false;
  }
  return true;
}

/// True if `value`, a list separated by commas, has the element `token` (in any case).
///
/// For the lists of plain tokens, as those of Connection and Vary; not for quoted strings.
constexpr bool has_token(std::string_view value, std::string_view token) noexcept {
  while (!value.empty()) {
    const auto comma = value.find(',');
    if (iequals(detail::trim(value.substr(0, comma)), token)) return true;
    value = comma == std::string_view::npos ? std::string_view() : value.substr(comma + 1);
  }
  return false;
}

/// The headers of a received message: views into the buffer of its connection.
///
/// A list, and each view from it, is good as long as the message is.
class header_list {
 public:
  /// Yields `header` by value.
  class iterator {
   public:
    using value_type = header;
    using reference = header;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using iterator_concept = std::forward_iterator_tag;

    iterator() = default;
    iterator(const char* base, const detail::field_span* at) noexcept : base_(base), at_(at) {}

    header operator*() const noexcept {
      return {{base_ + at_->name, at_->name_size}, {base_ + at_->value, at_->value_size}};
    }
    iterator& operator++() noexcept {
      ++at_;
      return *this;
    }
    iterator operator++(int) noexcept { return {base_, at_++}; }
    bool operator==(const iterator& other) const noexcept { return at_ == other.at_; }

   private:
    const char* base_ = nullptr;
    const detail::field_span* at_ = nullptr;
  };

  header_list() = default;
  header_list(const char* base, const detail::field_span* first, std::size_t size) noexcept
      : base_(base), first_(first), size_(size) {}

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  iterator begin() const noexcept { return {base_, first_}; }
  iterator end() const noexcept { return {base_, first_ + size_}; }

  /// The header at that place, in the order they came.
  header operator[](std::size_t index) const noexcept {
    PULSAR_ASSERT(index < size_, "header_list: there are fewer headers");
    return *iterator(base_, first_ + index);
  }

  /// The value of the first header of that name.
  std::optional<std::string_view> find(std::string_view name) const noexcept {
    for (const auto [key, value] : *this) {
      if (iequals(key, name)) return value;
    }
    return std::nullopt;
  }

  bool contains(std::string_view name) const noexcept { return find(name).has_value(); }

  /// How many headers of that name there are.
  std::size_t count(std::string_view name) const noexcept {
    std::size_t n = 0;
    for (const auto [key, value] : *this) n += iequals(key, name) ? 1 : 0;
    return n;
  }

 private:
  const char* base_ = nullptr;
  const detail::field_span* first_ = nullptr;
  std::size_t size_ = 0;
};

/// Headers to be sent, kept as the text that goes on the wire: "Name: value\r\n" a line.
class header_block {
 public:
  /// Yields `header` by value.
  class iterator {
   public:
    using value_type = header;
    using reference = header;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using iterator_concept = std::forward_iterator_tag;

    iterator() = default;
    explicit iterator(std::string_view rest) noexcept : rest_(rest) {}

    header operator*() const noexcept {
      const auto colon = rest_.find(':');
      return {rest_.substr(0, colon), rest_.substr(colon + 2, rest_.find('\r') - colon - 2)};
    }
    iterator& operator++() noexcept {
      rest_.remove_prefix(rest_.find('\n') + 1);
      return *this;
    }
    iterator operator++(int) noexcept {
      iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const iterator& other) const noexcept {
      return rest_.size() == other.rest_.size();
    }

   private:
    std::string_view rest_;
  };

  /// Adds a line behind the others, whether or not there is one of that name. Blanks around the
  /// value are dropped.
  ///
  /// Throws `pulsar::error` with `errc::bad_header_name` if the name is no token, and with
  /// `errc::bad_header_value` if the value has a line break, NUL or another control byte: text of
  /// a stranger can never add a header, or a response, of its own.
  void add(std::string_view name, std::string_view value) {
    value = detail::trim(value);
    check(name, value);
    const std::size_t size = text_.size() + name.size() + value.size() + 4;
    if (size <= text_.capacity()) {
      append_line(text_, name, value);
    } else {
      // The texts may be views into this block: it is left alone until they are copied.
      std::string grown;
      grown.reserve(size < 2 * text_.size() ? 2 * text_.size() : size);
      append_line(grown.append(text_), name, value);
      text_ = std::move(grown);
    }
  }

  /// Puts one line in the place of all of that name. Throws as `add`, and then changes nothing.
  void set(std::string_view name, std::string_view value) {
    check(name, detail::trim(value));
    if (contains(name)) {
      // The texts may be views into this block.
      const std::string own_name(name);
      const std::string own_value(value);
      erase(own_name);
      add(own_name, own_value);
    } else {
      add(name, value);
    }
  }

  /// Removes all lines of that name; returns how many there were.
  std::size_t erase(std::string_view name) {
    std::size_t n = 0;
    for (std::size_t at = 0; at < text_.size();) {
      const std::size_t next = text_.find('\n', at) + 1;
      if (iequals(std::string_view(text_).substr(at, text_.find(':', at) - at), name)) {
        text_.erase(at, next - at);
        ++n;
      } else {
        at = next;
      }
    }
    return n;
  }

  /// The value of the first header of that name.
  std::optional<std::string_view> find(std::string_view name) const noexcept {
    for (const auto [key, value] : *this) {
      if (iequals(key, name)) return value;
    }
    return std::nullopt;
  }

  bool contains(std::string_view name) const noexcept { return find(name).has_value(); }
  bool empty() const noexcept { return text_.empty(); }
  void clear() noexcept { text_.clear(); }
  iterator begin() const noexcept { return iterator(text_); }
  iterator end() const noexcept { return iterator(); }

  /// The lines as they are sent.
  std::string_view text() const noexcept { return text_; }

 private:
  static void append_line(std::string& out, std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
  }

  static void check(std::string_view name, std::string_view value) {
    if (name.empty() || !detail::all_of_class(name, detail::is_token)) [[unlikely]] {
      std::string what = "cannot send a header named '";
      what.append(printable(name)).append("': use letters, digits and '-' alone");
      throw pulsar::error(errc::bad_header_name, what);
    }
    if (!detail::all_of_class(value, detail::is_value)) [[unlikely]] {
      std::string what = "cannot send the header '";
      what.append(name).append("' with the value '").append(printable(value));
      what.append("': remove the control characters or encode them");
      throw pulsar::error(errc::bad_header_value, what);
    }
  }

  // At most 80 characters, none of which moves the cursor of who reads the log.
  static std::string printable(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, 80)) {
      constexpr std::string_view digits = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(c);
      if (byte >= 0x20 && byte < 0x7f) {
        out += c;
      } else {
        out.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
      }
    }
    if (text.size() > 80) out += "...";
    return out;
  }

  std::string text_;
};

}  // namespace pulsar::http
