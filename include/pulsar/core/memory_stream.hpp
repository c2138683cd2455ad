// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Two streams that are connected in memory: for tests, and between two parts of one loop.
///
///     auto [client, server] = pulsar::memory_pair();
///     serve(std::move(server)).detach();
///     client.write("hello\n");
///     const std::string answer = co_await client.read_line();
///
/// They behave as a connection does: each direction holds so many bytes and no more, each side ends
/// on its own, and who goes while bytes for it have not been read resets the other. No descriptor
/// is involved, so a virtual clock jumps while they wait.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/raw_stream.hpp>
#include <pulsar/core/stream.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

/// What the two ends of a pair have in common. Each direction has a ring of bytes, at most one read
/// and one write that wait, and the way in which it has ended.
class memory_link : public counted_here {
 public:
  using operation = raw_stream::operation;

  memory_link(event_loop& loop, std::size_t capacity)
      : loop_(loop), ways_{{*this, capacity}, {*this, capacity}} {}

  bool read(int end, std::span<std::byte> into, operation& op) {
    way& from = ways_[1 - end];
    op.failure.clear();
    op.count = from.take(into);
    if (op.count != 0) {
      from.wake_writer();
      return true;
    }
    if (from.lost) op.failure = std::make_error_code(std::errc::connection_reset);
    if (from.lost || from.ended) return true;
    from.reader.op = &op;
    from.into = into;
    return false;
  }

  bool write(int end, std::span<const std::byte> from, operation& op) {
    op.count = write_now(end, from, op.failure);
    if (op.count != 0 || op.failure) return true;
    way& to = ways_[end];
    to.writer.op = &op;
    to.from = from;
    return false;
  }

  std::size_t read_now(int end, std::span<std::byte> into) noexcept {
    way& from = ways_[1 - end];
    const std::size_t n = from.take(into);
    if (n != 0) from.wake_writer();
    return n;
  }

  std::size_t write_now(int end,
                        std::span<const std::byte> from,
                        std::error_code& failure) noexcept {
    way& to = ways_[end];
    failure.clear();
    if (to.writer.op != nullptr) return 0;
    if (to.lost || to.deaf) {
      failure =
          std::make_error_code(to.lost ? std::errc::connection_reset : std::errc::broken_pipe);
      return 0;
    }
    const std::size_t n = to.put(from);
    if (n != 0) to.wake_reader();
    return n;
  }

  void shut_down(int end) noexcept {
    ways_[end].ended = true;
    ways_[end].wake_reader();
  }

  void close(int end, bool reset) noexcept {
    way& out = ways_[end];
    way& in = ways_[1 - end];
    out.writer.op = nullptr;
    in.reader.op = nullptr;
    if (std::exchange(in.deaf, true)) return;
    if (reset || !in.empty()) {
      out.lost = in.lost = true;
    } else {
      out.ended = true;
    }
    out.wake_reader();
    in.wake_writer();
  }

 private:
  // Who waits in a way, and the call by which that ends.
  struct waiter : task_node {
    explicit waiter(memory_link& l) noexcept : task_node(&run), link(l) {}

    void finish(std::size_t n, std::error_code failure) noexcept {
      event_loop* const loop = link.loop_.get();
      if (op == nullptr || due || loop == nullptr) return;
      op->count = n;
      op->failure = failure;
      due = true;
      link.take();
      loop_access::push_ready(*loop, this);
    }

    static void run(task_node* node, bool drop) {
      auto& self = static_cast<waiter&>(*node);
      const counted_pointer<memory_link> link(&self.link);
      self.due = false;
      operation* const op = std::exchange(self.op, nullptr);
      if (op != nullptr && !drop) op->ended(op);
    }

    memory_link& link;
    operation* op = nullptr;
    bool due = false;
  };

  // Bytes from one end to the other.
  struct way {
    way(memory_link& link, std::size_t c)
        : capacity(c), ring(new std::byte[c]), reader(link), writer(link) {}

    bool empty() const noexcept { return size == 0; }

    std::size_t put(std::span<const std::byte> given) noexcept {
      const std::size_t n = std::min(given.size(), capacity - size);
      if (n == 0) return 0;
      const std::size_t at = (first + size) % capacity;
      const std::size_t part = std::min(n, capacity - at);
      std::memcpy(ring.get() + at, given.data(), part);
      std::memcpy(ring.get(), given.data() + part, n - part);
      size += n;
      return n;
    }

    std::size_t take(std::span<std::byte> into_) noexcept {
      const std::size_t n = std::min(into_.size(), size);
      if (n == 0) return 0;
      const std::size_t part = std::min(n, capacity - first);
      std::memcpy(into_.data(), ring.get() + first, part);
      std::memcpy(into_.data() + part, ring.get(), n - part);
      first = (first + n) % capacity;
      size -= n;
      return n;
    }

    void wake_reader() noexcept {
      if (reader.op == nullptr || reader.due) return;
      const std::size_t n = take(into);
      std::error_code failure;
      if (n == 0 && lost) failure = std::make_error_code(std::errc::connection_reset);
      if (n == 0 && !lost && !ended) return;
      reader.finish(n, failure);
      if (n != 0) wake_writer();
    }

    void wake_writer() noexcept {
      if (writer.op == nullptr || writer.due) return;
      std::error_code failure;
      if (lost) failure = std::make_error_code(std::errc::connection_reset);
      if (deaf && !lost) failure = std::make_error_code(std::errc::broken_pipe);
      const std::size_t n = failure ? 0 : put(from);
      if (n == 0 && !failure) return;
      writer.finish(n, failure);
      if (n != 0) wake_reader();
    }

    const std::size_t capacity;
    const std::unique_ptr<std::byte[]> ring;
    std::size_t first = 0;
    std::size_t size = 0;
    waiter reader;
    waiter writer;
    std::span<std::byte> into;
    std::span<const std::byte> from;
    bool ended = false;  // nothing more comes
    bool deaf = false;   // nobody reads any more
    bool lost = false;
  };

  const loop_ref loop_;
  way ways_[2];  // from the first end, from the second
};

class memory_end final : public raw_stream {
 public:
  memory_end(counted_pointer<memory_link> link, int end) noexcept
      : link_(std::move(link)), end_(end) {}
  ~memory_end() override { link_->close(end_, false); }

  bool read(std::span<std::byte> into, operation& op) override {
    return link_->read(end_, into, op);
  }
  bool write(std::span<const std::byte> from, operation& op) override {
    return link_->write(end_, from, op);
  }
  std::size_t read_now(std::span<std::byte> into, std::error_code& failure) noexcept override {
    failure.clear();
    return link_->read_now(end_, into);
  }
  std::size_t write_now(std::span<const std::byte> from,
                        std::error_code& failure) noexcept override {
    return link_->write_now(end_, from, failure);
  }
  bool shut_down(operation& op) override {
    op.count = 0;
    op.failure.clear();
    link_->shut_down(end_);
    return true;
  }
  void close() noexcept override { link_->close(end_, false); }
  void reset() noexcept override { link_->close(end_, true); }

 private:
  counted_pointer<memory_link> link_;
  const int end_;
};

}  // namespace detail

/// Two connected ends without buffers of their own; each direction holds up to `capacity` bytes,
/// default 64 KiB. Throws `std::errc::invalid_argument` for zero.
inline std::pair<std::unique_ptr<raw_stream>, std::unique_ptr<raw_stream>> raw_memory_pair(
    std::size_t capacity = 64 * 1024, event_loop& loop = event_loop::current()) {
  if (capacity == 0) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "a pair in memory must have room for a byte");
  }
  const detail::counted_pointer<detail::memory_link> link(new detail::memory_link(loop, capacity));
  return {std::make_unique<detail::memory_end>(link, 0),
          std::make_unique<detail::memory_end>(link, 1)};
}

/// Two connected streams of `loop`, both with `options`; otherwise as `raw_memory_pair`. What a
/// side has written and the other has not read lies in that capacity and in the writer's buffer.
inline std::pair<stream, stream> memory_pair(std::size_t capacity = 64 * 1024,
                                             stream_options options = {},
                                             event_loop& loop = event_loop::current()) {
  auto ends = raw_memory_pair(capacity, loop);
  return {stream(std::move(ends.first), options, loop),
          stream(std::move(ends.second), options, loop)};
}

}  // namespace pulsar
