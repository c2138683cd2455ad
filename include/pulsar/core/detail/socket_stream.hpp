// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The raw_stream of a descriptor: a connected socket, a pipe, a terminal.
//
// A read is Asio's, which tries once and then waits without a system call of its own: the
// descriptor stands edge-triggered in its epoll. A write tries by itself, and asks Asio to wait
// only when nothing goes any more.

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/raw_stream.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/basic_stream_descriptor.hpp>
#include <asio/post.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <system_error>
#include <utility>

namespace pulsar::detail {

enum class descriptor_kind : std::uint8_t {
  socket,         // the stream's own
  shared_socket,  // stays as it is when the stream ends: others go on with it
  other,
  unopened_fifo  // reads as if it had ended, until somebody writes: that is waited for
};

/// A read that is to begin.
struct read_to_begin {
  using function = void (*)(read_to_begin*);
  explicit read_to_begin(function f) noexcept : begin(f) {}
  read_to_begin(const read_to_begin&) = delete;
  read_to_begin& operator=(const read_to_begin&) = delete;

  function begin;
  read_to_begin* next = nullptr;
  read_to_begin** link = nullptr;  // while it is in the list
};

/// Those of a loop, in their order. Where one was alone in its turn of the loop, the next ones may
/// begin at once: the way behind the other descriptors costs a look at epoll.
class reads_to_begin : public counted_here {
 public:
  bool may_begin_at_once() noexcept {
    if (posted_ || calm_ == 0) return false;
    --calm_;
    return true;
  }

  void add(read_to_begin& read, asio::io_context& context) {
    if (!posted_) {
      asio::post(context, handler{share(*this)});
      posted_ = true;
    }
    read.next = nullptr;
    read.link = last_;
    *last_ = &read;
    last_ = &read.next;
  }

  void remove(read_to_begin& read) noexcept {
    if (read.link == nullptr) return;
    *read.link = read.next;
    (read.next != nullptr ? read.next->link : last_) = read.link;
    read.link = nullptr;
  }

 private:
  struct handler {
    counted_pointer<reads_to_begin> reads;
    void operator()() const { reads->begin_all(); }
  };

  void begin_all() {
    posted_ = false;
    calm_ = first_ != nullptr && first_->next == nullptr ? calm_reads : 0;
    while (read_to_begin* const read = first_) {
      remove(*read);
      read->begin(read);
    }
  }

  static constexpr unsigned calm_reads = 16;

  read_to_begin* first_ = nullptr;
  read_to_begin** last_ = &first_;
  unsigned calm_ = 0;
  bool posted_ = false;
};

/// The same as the loop's own.
struct reads_of_loop final : loop_extension {
  explicit reads_of_loop(event_loop&) : reads(new reads_to_begin) {}
  counted_pointer<reads_to_begin> reads;
};

/// Memory for one operation of Asio, which would ask for it with each read: the few blocks that it
/// keeps by itself do not go far when many reads begin together.
class operation_room {
 public:
  void* allocate(std::size_t size) {
    if (size > sizeof bytes_ || std::exchange(taken_, true)) return ::operator new(size);
    return bytes_;
  }
  void deallocate(void* memory) noexcept {
    if (memory != bytes_) return ::operator delete(memory);
    taken_ = false;
  }

 private:
  alignas(std::max_align_t) std::byte bytes_[160];
  bool taken_ = false;
};

template <class T>
struct operation_allocator {
  using value_type = T;

  explicit operation_allocator(operation_room& r) noexcept : room(&r) {}
  template <class U>
  operation_allocator(const operation_allocator<U>& other) noexcept : room(other.room) {}

  T* allocate(std::size_t n) { return static_cast<T*>(room->allocate(n * sizeof(T))); }
  void deallocate(T* memory, std::size_t) noexcept { room->deallocate(memory); }
  template <class U>
  bool operator==(const operation_allocator<U>& other) const noexcept {
    return room == other.room;
  }

  operation_room* room;
};

/// What a stream on a descriptor has in common with the operations that Asio has not ended yet.
class descriptor_io : public counted_here, read_to_begin {
 public:
  using operation = raw_stream::operation;

  descriptor_io(event_loop& loop, unique_fd fd, descriptor_kind kind)
      : read_to_begin(&begin_read),
        loop_(loop),
        reads_(loop_access::local<reads_of_loop>(loop).reads),
        descriptor_(loop.context()),
        waits_to_read_(kind == descriptor_kind::unopened_fifo),
        kind_(waits_to_read_ ? descriptor_kind::other : kind) {
    descriptor_.assign(fd.get());
    static_cast<void>(fd.release());
    descriptor_.non_blocking(true);
  }

  int fd() noexcept { return descriptor_.is_open() ? descriptor_.native_handle() : -1; }
  descriptor_kind kind() const noexcept { return kind_; }
  bool is_writing() const noexcept { return writing_ != nullptr; }

  void read(std::span<std::byte> into, operation& op) {
    event_loop* const loop = loop_.get();
    if (loop == nullptr) return;  // nothing ends any more
    into_ = into;
    if (reads_->may_begin_at_once()) {
      start_read(into);
    } else {
      reads_->add(*this, loop->context());
    }
    reading_ = &op;
    loop_access::io_started(*loop);
  }

  /// Waits until some of `from` is written.
  void write(std::span<const std::byte> from, operation& op) {
    wait_again();
    writing_ = &op;
    unwritten_ = from;
    started();
  }

  /// Writes what goes; none with `failure` clear if nothing does.
  std::size_t send(std::span<const std::byte> from, std::error_code& failure) noexcept {
    failure.clear();
    for (;;) {
      const auto n = kind_ != descriptor_kind::other
                         ? ::send(fd(), from.data(), from.size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                         : ::write(fd(), from.data(), from.size());
      if (n >= 0) return static_cast<std::size_t>(n);
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) failure.assign(errno, std::system_category());
      return 0;
    }
  }

  void close() noexcept {
    reads_->remove(*this);
    forget(reading_);
    forget(writing_);
    std::error_code ignored;
    descriptor_.close(ignored);
  }

 private:
  // Keeps the memory of its operation too, until that is given back.
  struct read_handler {
    using allocator_type = operation_allocator<void>;

    counted_pointer<descriptor_io> io;
    allocator_type get_allocator() const noexcept { return allocator_type(io->read_room_); }
    void operator()(const std::error_code& failure, std::size_t n) const {
      io->on_read(failure, n);
    }
  };
  struct wait_handler {
    counted_pointer<descriptor_io> io;
    bool reads;
    void operator()(const std::error_code& failure) const {
      reads ? io->on_readable(failure) : io->on_writable(failure);
    }
  };

  void start_read(std::span<std::byte> into) {
    if (waits_to_read_) [[unlikely]] {
      return descriptor_.async_wait(descriptor_.wait_read, wait_handler{share(*this), true});
    }
    descriptor_.async_read_some(asio::buffer(into.data(), into.size()), read_handler{share(*this)});
  }

  static void begin_read(read_to_begin* self) {
    auto& io = static_cast<descriptor_io&>(*self);
    try {
      io.start_read(io.into_);
    } catch (const std::bad_alloc&) {
      io.end(io.reading_, 0, std::make_error_code(std::errc::not_enough_memory));
    }
  }

  // Asio's category of the system's errors knows nothing of std::errc.
  static std::error_code failure_of(const std::error_code& told) noexcept {
    if (!told || told == asio::error::eof) return {};
    return {told.value(), std::system_category()};
  }

  void on_read(const std::error_code& told, std::size_t n) { end(reading_, n, failure_of(told)); }

  void on_writable(const std::error_code& told) {
    if (writing_ == nullptr) return;
    std::error_code failure = failure_of(told);
    std::size_t n = 0;
    if (!failure) {
      n = send(unwritten_, failure);
      if (n == 0 && !failure) return wait_again();
    }
    end(writing_, n, failure);
  }

  void wait_again() {
    descriptor_.async_wait(descriptor_.wait_write, wait_handler{share(*this), false});
  }

  void on_readable(const std::error_code& told) {
    if (reading_ == nullptr) return;
    if (told) return end(reading_, 0, failure_of(told));
    waits_to_read_ = false;
    begin_read(this);
  }

  void end(operation*& slot, std::size_t n, const std::error_code& failure) {
    event_loop* const loop = loop_.get();
    operation* const op = std::exchange(slot, nullptr);
    if (op == nullptr || loop == nullptr) return;
    loop_access::io_ended(*loop);
    op->count = n;
    op->failure = failure;
    loop_access::run_as_batch(*loop, [op] { op->ended(op); });
  }

  void started() noexcept {
    if (event_loop* const loop = loop_.get()) loop_access::io_started(*loop);
  }

  void forget(operation*& slot) noexcept {
    if (std::exchange(slot, nullptr) == nullptr) return;
    if (event_loop* const loop = loop_.get()) loop_access::io_ended(*loop);
  }

  const loop_ref loop_;
  const counted_pointer<reads_to_begin> reads_;
  asio::posix::basic_stream_descriptor<asio::io_context::executor_type> descriptor_;
  operation* reading_ = nullptr;
  std::span<std::byte> into_;
  operation_room read_room_;
  operation* writing_ = nullptr;
  std::span<const std::byte> unwritten_;
  bool waits_to_read_;
  const descriptor_kind kind_;
};

class descriptor_stream final : public raw_stream {
 public:
  /// `fd` becomes non-blocking, for all who share it. Of what is no socket, SIGPIPE must be
  /// ignored.
  descriptor_stream(event_loop& loop, unique_fd fd, descriptor_kind kind)
      : io_(new descriptor_io(loop, std::move(fd), kind)) {}
  ~descriptor_stream() override { io_->close(); }

  bool read(std::span<std::byte> into, operation& op) override {
    io_->read(into, op);
    return false;
  }

  bool write(std::span<const std::byte> from, operation& op) override {
    op.count = io_->send(from, op.failure);
    if (op.count != 0 || op.failure) return true;
    io_->write(from, op);
    return false;
  }

  std::size_t read_now(std::span<std::byte> into, std::error_code& failure) noexcept override {
    failure.clear();
    // The end of what a terminal sends is told once: not to us.
    if (io_->kind() == descriptor_kind::other) return 0;
    const auto n = ::recv(io_->fd(), into.data(), into.size(), MSG_DONTWAIT);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      failure.assign(errno, std::system_category());
    }
    return 0;
  }

  std::size_t write_now(std::span<const std::byte> from,
                        std::error_code& failure) noexcept override {
    failure.clear();
    return io_->is_writing() ? 0 : io_->send(from, failure);
  }

  bool shut_down(operation& op) override {
    op.count = 0;
    op.failure.clear();
    if (io_->kind() != descriptor_kind::socket) {
      io_->close();
    } else if (::shutdown(io_->fd(), SHUT_WR) != 0) {
      op.failure.assign(errno, std::system_category());
    }
    return true;
  }

  void close() noexcept override { io_->close(); }

  void reset() noexcept override {
    const linger at_once{1, 0};
    if (io_->kind() == descriptor_kind::socket) {
      ::setsockopt(io_->fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    io_->close();
  }

  int native_handle() const noexcept override { return io_->fd(); }

 private:
  counted_pointer<descriptor_io> io_;
};

/// Throws what Asio throws if the descriptor cannot be waited for.
template <class = void>
std::unique_ptr<raw_stream> new_descriptor_stream(event_loop& loop,
                                                  unique_fd fd,
                                                  descriptor_kind kind) {
  return std::make_unique<descriptor_stream>(loop, std::move(fd), kind);
}

}  // namespace pulsar::detail
