// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `buffer`: bytes that are appended at the end and consumed from the front.
///
///     pulsar::buffer in;
///     auto space = in.prepare(4096);                    // at least 4096 bytes, not initialised
///     const auto n = ::read(fd, space.data(), space.size());
///     if (n > 0) in.commit(static_cast<std::size_t>(n));
///     in.consume(parse(in.readable()));
///
/// Nothing is filled with zeros and consuming moves no byte: the space in front is won back when
/// the buffer runs empty, or when more room is asked for and at least half of the bytes are gone.
/// A header whose value is known last is appended first and patched through `data()`.

#include <pulsar/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar {

/// Owned bytes as a value: a field of this type travels as binary data.
using bytes = std::vector<std::byte>;

/// A growable queue of bytes. Movable, not copyable; grows without a bound of its own, whoever
/// reads from strangers compares `size()` with a limit first.
///
/// Every growing member may move the bytes: spans and pointers into the buffer end there.
class buffer {
 public:
  buffer() noexcept = default;
  /// Starts with room for `capacity` bytes.
  explicit buffer(std::size_t capacity) { reserve(capacity); }
  buffer(buffer&& other) noexcept
      : storage_(std::exchange(other.storage_, nullptr)),
        capacity_(std::exchange(other.capacity_, 0)),
        begin_(std::exchange(other.begin_, 0)),
        end_(std::exchange(other.end_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~buffer() { std::free(storage_); }

  // -- reading ---------------------------------------------------------------

  /// The first byte that can be read.
  std::byte* data() noexcept { return storage_ + begin_; }
  const std::byte* data() const noexcept { return storage_ + begin_; }
  /// How many bytes can be read.
  std::size_t size() const noexcept { return end_ - begin_; }
  bool empty() const noexcept { return begin_ == end_; }
  std::byte* begin() noexcept { return data(); }
  std::byte* end() noexcept { return storage_ + end_; }
  const std::byte* begin() const noexcept { return data(); }
  const std::byte* end() const noexcept { return storage_ + end_; }
  /// The bytes that can be read.
  std::span<const std::byte> readable() const noexcept { return {data(), size()}; }
  /// The same as text.
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data()), size()}; }

  /// Drops the first `n` bytes, at most `size()`.
  void consume(std::size_t n) noexcept {
    PULSAR_ASSERT(n <= size(), "buffer::consume: more bytes than there are");
    begin_ += n;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  /// Keeps the first `n` bytes and drops what was appended after them.
  void truncate(std::size_t n) noexcept {
    PULSAR_ASSERT(n <= size(), "buffer::truncate: more bytes than there are");
    end_ = begin_ + n;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  /// Drops all bytes and keeps the memory.
  void clear() noexcept { begin_ = end_ = 0; }

  // -- writing ---------------------------------------------------------------

  /// All free space behind the readable bytes, at least `n` bytes and not initialised.
  std::span<std::byte> prepare(std::size_t n) {
    if (capacity_ - end_ < n) make_room(n);
    return {storage_ + end_, capacity_ - end_};
  }

  /// Makes the first `n` bytes of what `prepare` returned readable.
  void commit(std::size_t n) noexcept {
    PULSAR_ASSERT(n <= capacity_ - end_, "buffer::commit: more bytes than were prepared");
    end_ += n;
  }

  /// Appends a copy. The bytes may lie in this buffer.
  void append(std::span<const std::byte> from) {
    if (from.empty()) return;
    if (capacity_ - end_ < from.size()) {
      append_growing(from);
    } else {
      std::memcpy(storage_ + end_, from.data(), from.size());
      end_ += from.size();
    }
  }
  void append(std::string_view from) { append(std::as_bytes(std::span(from))); }

  void push_back(std::byte value) {
    if (capacity_ == end_) make_room(1);
    storage_[end_++] = value;
  }

  // -- memory ----------------------------------------------------------------

  /// How many bytes fit before the buffer must grow, counting those already there.
  std::size_t capacity() const noexcept { return capacity_; }

  /// Makes room for `n` readable bytes in all, so that appending up to there cannot throw.
  void reserve(std::size_t n) {
    if (n > size()) prepare(n - size());
  }

  /// Gives the memory back if nothing is left to read: for a connection that falls idle.
  void release() noexcept {
    if (empty()) buffer().swap(*this);
  }

  void swap(buffer& other) noexcept {
    std::swap(storage_, other.storage_);
    std::swap(capacity_, other.capacity_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
  }
  friend void swap(buffer& a, buffer& b) noexcept { a.swap(b); }

 private:
  static constexpr std::size_t smallest = 256;
  static constexpr std::size_t largest = static_cast<std::size_t>(-1) / 2;

  // Moving the rest to the front is paid by the bytes that were consumed: it happens only when
  // those are no fewer.
  void make_room(std::size_t n) {
    const std::size_t used = size();
    if (n > largest - used) throw std::bad_alloc();
    if (begin_ >= used && n <= capacity_ - used) {
      if (used != 0) std::memcpy(storage_, storage_ + begin_, used);
    } else {
      grow(std::max({2 * capacity_, used + n, smallest}), used);
    }
    begin_ = 0;
    end_ = used;
  }

  void grow(std::size_t capacity, std::size_t used) {
    void* to = begin_ == 0 ? std::realloc(storage_, capacity) : std::malloc(capacity);
    if (to == nullptr) throw std::bad_alloc();
    if (begin_ != 0) {
      std::memcpy(to, storage_ + begin_, used);
      std::free(storage_);
    }
    storage_ = static_cast<std::byte*>(to);
    capacity_ = capacity;
  }

  // Apart because growing may move the very bytes that are to be appended.
  void append_growing(std::span<const std::byte> from) {
    const auto first = reinterpret_cast<std::uintptr_t>(data());
    const auto wanted = reinterpret_cast<std::uintptr_t>(from.data());
    const bool own = wanted >= first && wanted < first + size();
    make_room(from.size());
    std::memcpy(storage_ + end_, own ? storage_ + (wanted - first) : from.data(), from.size());
    end_ += from.size();
  }

  std::byte* storage_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace pulsar
