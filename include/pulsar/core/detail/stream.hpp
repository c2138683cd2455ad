// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a stream consists of: the buffers over a raw_stream, the one read that waits, those who wait
// for writes.
//
// The raw_stream reads into the buffer here and nowhere else. So a read that is given up ends at
// once, what the raw_stream is at goes on, and its bytes are there for the next read.

#include <pulsar/core/address.hpp>
#include <pulsar/core/buffer.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/detail/shared_state.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/raw_stream.hpp>
#include <pulsar/core/stream.hpp>

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

/// A read. While it waits, the core refers to it.
struct stream_reader : hand_made_state {
  using hand_made_state::hand_made_state;

  /// Settles it if it can be; true if so. What it throws it has not taken.
  virtual bool finish(stream_core& from) = 0;

  inline void on_cancelled() noexcept override;
  inline void describe(wait_description& to) const override;

  stream_core* core = nullptr;  // while it waits

 protected:
  bool fail_with(errc code, const std::string& sentence) {
    fail(std::make_exception_ptr(error(code, sentence)));
    return true;
  }
  /// There is no more to read: true if that is a failure, which is told then.
  bool fail_at_end(const stream_core& from);
};

/// Who waits for writes.
struct stream_writer {
  const stream_core* core;

  inline void describe(wait_description& to) const;
};

/// Told when bytes have gone and when a write has failed, in the middle of it: it looks later.
struct write_observer {
  virtual void on_write() noexcept = 0;

 protected:
  ~write_observer() = default;
};

/// Belongs to the thread of its loop. Counted by its stream, by the flush that is due, and by
/// `close` while that is under way.
class stream_core final : public counted_here {
 public:
  stream_core(event_loop& loop, std::unique_ptr<raw_stream> raw, const stream_options& o)
      : options(o), loop_(loop), raw_(std::move(raw)) {}
  ~stream_core() override {
    if (raw_ != nullptr) raw_->close();  // before the buffers go
  }

  // -- the two sides ---------------------------------------------------------

  event_loop& open_loop(const char* what) const {
    event_loop* const loop = loop_.get();
    if (loop == nullptr) throw error(errc::loop_closed, what);
    return *loop;
  }

  raw_stream& raw() const noexcept { return *raw_; }
  bool is_closing() const noexcept { return closing_; }

  /// "127.0.0.1:8060", or what else can be said of it.
  std::string peer_name() const;
  address address_of(int (*ask)(int, sockaddr*, socklen_t*)) const;

  // -- reading ---------------------------------------------------------------

  void begin(stream_reader& reader) noexcept;
  void forget_reader() noexcept { reader_ = nullptr; }

  std::span<const std::byte> buffered() const noexcept { return in_.readable().subspan(skip_); }
  std::string_view text() const noexcept { return in_.text().substr(skip_); }
  void consume(std::size_t n) noexcept;
  void skip(std::size_t n) noexcept;

  /// True if something came since it was asked last.
  bool sees_more() noexcept {
    const std::size_t before = std::exchange(seen_, buffered().size());
    return before < seen_;
  }

  bool at_end() const noexcept { return ended_ && !read_failure_ && buffered().empty(); }

  /// No more bytes will come.
  bool ended() const noexcept { return ended_; }
  /// And why, if that is no end in good order.
  std::exception_ptr read_failure() const;

  // -- writing ---------------------------------------------------------------

  void write(std::span<const std::byte> from);
  void flush() noexcept;
  future<> drain();
  void end_writing();

  std::size_t unsent() const noexcept { return sending_.size() + queued_.size(); }

  // -- the end ---------------------------------------------------------------

  void stop() noexcept;
  bool is_flushed() const noexcept { return unsent() == 0 && shut_ == shut::done; }
  future<> flushed(event_loop& loop) { return closers_.wait(loop, {this}); }
  std::exception_ptr write_failure() const;
  void close() noexcept;
  void abort() noexcept;
  void let_go() noexcept;
  std::pair<std::unique_ptr<raw_stream>, std::string> release();

  const stream_options options;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  write_observer* observer = nullptr;

 private:
  static constexpr std::size_t least_room = 2 * 1024;  // of a read that waits
  static constexpr std::size_t most_room = 16 * 1024;
  static constexpr std::size_t most_at_once = 64 * 1024;  // of what is there
  static constexpr std::size_t most_kept = 4 * 1024;      // of the memory for writes, while idle
  static constexpr std::size_t large = 16 * 1024;         // a write that is worth a try of its own

  enum class shut : std::uint8_t { no, wanted, under_way, done };

  struct operation : raw_stream::operation {
    operation(stream_core& c, function f) noexcept : raw_stream::operation(f), core(c) {}
    stream_core& core;
  };
  static stream_core& core_of(raw_stream::operation* op) noexcept {
    return static_cast<operation*>(op)->core;
  }
  static void read_ended(raw_stream::operation* op) noexcept { core_of(op).on_read(); }
  static void write_ended(raw_stream::operation* op) noexcept { core_of(op).on_written(); }
  static void shut_ended(raw_stream::operation* op) noexcept { core_of(op).on_shut(); }

  // Flushes at the end of a turn.
  struct flush_node : task_node {
    explicit flush_node(stream_core& c) noexcept : task_node(&run), core(c) {}
    static void run(task_node* node, bool drop) {
      const counted_pointer<stream_core> core(&static_cast<flush_node*>(node)->core);
      core->flush_due_ = false;
      if (!drop && core->unsent() > 0) core->flush();
    }
    stream_core& core;
  };

  void read_more();
  void take_in();
  void read_rest();
  void on_read() noexcept;
  void fail_reader(std::exception_ptr why) noexcept;

  void on_written() noexcept;
  void on_shut() noexcept;
  bool take_written() noexcept;
  void sent() noexcept;
  void shut_down() noexcept;
  void fail_writes(std::error_code why) noexcept;
  void release_buffers() noexcept;
  void send_now() noexcept;

  const loop_ref loop_;
  std::unique_ptr<raw_stream> raw_;

  buffer in_;
  std::size_t skip_ = 0;  // of `in_`: consumed while a read was under way
  std::size_t seen_ = 0;  // by `fill`
  std::size_t room_ = least_room;
  std::size_t read_size_ = 0;  // of the read under way
  operation read_{*this, &read_ended};
  stream_reader* reader_ = nullptr;
  std::error_code read_failure_;

  buffer sending_;  // stays as it is while a write is under way
  buffer queued_;   // what comes behind it
  operation write_{*this, &write_ended};
  operation shut_operation_{*this, &shut_ended};
  flush_node flush_node_{*this};
  waiting_line<void, stream_writer> drainers_{"a write"};
  waiting_line<void, stream_writer> closers_{"a write"};
  std::error_code write_failure_;

  bool reading_ = false;
  bool ended_ = false;
  bool writing_ = false;
  bool flush_due_ = false;
  bool no_more_ = false;  // writes
  bool closing_ = false;
  shut shut_ = shut::no;
};

struct stream_access {
  static stream_core& core(const stream& s) noexcept { return *s.core_; }
};

}  // namespace detail

}  // namespace pulsar

#include <pulsar/core/detail/stream_calls.hpp>
