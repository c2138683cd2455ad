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

#include <algorithm>
#include <cerrno>
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
  bool has_ended_writing() const noexcept { return no_more_; }

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

void stream_reader::on_cancelled() noexcept {
  if (core == nullptr) return;
  std::exchange(core, nullptr)->forget_reader();
  drop();
}

// -- what is said of it --------------------------------------------------------

inline address stream_core::address_of(int (*ask)(int, sockaddr*, socklen_t*)) const {
  return address_of_socket(raw_->native_handle(), ask);
}

inline std::string stream_core::peer_name() const {
  const address peer = address_of(&::getpeername);
  return peer.is_unix() && peer.path().empty() ? "the other side" : peer.to_string();
}

inline void stream_reader::describe(wait_description& to) const {
  to.text = "a read from " + (core == nullptr ? "a stream" : core->peer_name());
}

inline void stream_writer::describe(wait_description& to) const {
  to.text = "a write to " + core->peer_name();
}

inline std::exception_ptr stream_core::read_failure() const {
  if (closing_) return std::make_exception_ptr(error(errc::closed, "reading from a closed stream"));
  if (!read_failure_) return nullptr;
  return std::make_exception_ptr(error(read_failure_, "cannot read from " + peer_name()));
}

inline std::exception_ptr stream_core::write_failure() const {
  if (!write_failure_) return nullptr;
  return std::make_exception_ptr(error(write_failure_, "cannot write to " + peer_name()));
}

// -- reading -------------------------------------------------------------------

inline void stream_core::begin(stream_reader& reader) noexcept {
  try {
    if (reader_ != nullptr) {
      throw error(errc::already_called, "another read of this stream waits: one at a time");
    }
    if (!reader.finish(*this)) {
      reader_ = &reader;
      reader.core = this;
      return read_more();
    }
  } catch (...) {
    if (reader_ == &reader) {
      reader_ = nullptr;
      reader.core = nullptr;
    }
    reader.fail(std::current_exception());
  }
  reader.drop();
}

// Until the reader is settled, or has to wait.
inline void stream_core::read_more() {
  while (!reading_) {
    if (in_.empty() && in_.capacity() > most_room) in_.release();
    const auto room = in_.prepare(room_);
    read_size_ = std::min(room.size(), most_room);
    if (!raw_->read(room.first(read_size_), read_)) {
      reading_ = true;
      return;
    }
    take_in();
    if (reader_->finish(*this)) {
      stream_reader* const done = std::exchange(reader_, nullptr);
      done->core = nullptr;
      return done->drop();
    }
  }
}

// What the raw_stream has read.
inline void stream_core::take_in() {
  if (read_.failure) {
    read_failure_ = read_.failure;
    ended_ = true;
  } else if (read_.count == 0) {
    ended_ = true;
  } else {
    in_.commit(read_.count);
    bytes_read += read_.count;
  }
  if (skip_ != 0) in_.consume(std::exchange(skip_, 0));
}

// What came together is taken together: the loop is not asked again for what is there already.
inline void stream_core::read_rest() {
  if (read_.count < read_size_) {
    if (read_.count < room_ / 4 && room_ > least_room) room_ /= 2;
    return;
  }
  if (room_ < most_room) room_ *= 2;
  for (std::size_t left = most_at_once; left > 0 && !ended_;) {
    auto room = in_.prepare(std::min(left, most_room));
    room = room.first(std::min(left, room.size()));
    std::error_code failure;
    const std::size_t n = raw_->read_now(room, failure);
    in_.commit(n);
    bytes_read += n;
    left -= n;
    if (failure) {
      read_failure_ = failure;
      ended_ = true;
    }
    if (n < room.size()) return;
  }
}

inline void stream_core::on_read() noexcept {
  reading_ = false;
  try {
    take_in();
    // Who has given it up may look at `buffered`, which stays in place.
    if (reader_ == nullptr) return;
    read_rest();
    if (!reader_->finish(*this)) return read_more();
  } catch (...) {
    return fail_reader(std::current_exception());
  }
  stream_reader* const done = std::exchange(reader_, nullptr);
  done->core = nullptr;
  done->drop();
}

inline void stream_core::fail_reader(std::exception_ptr why) noexcept {
  stream_reader* const reader = std::exchange(reader_, nullptr);
  if (reader == nullptr) return;
  reader->core = nullptr;
  reader->fail(std::move(why));
  reader->drop();
}

inline void stream_core::consume(std::size_t n) noexcept {
  PULSAR_ASSERT(n <= buffered().size(), "stream::consume: more bytes than are buffered");
  PULSAR_ASSERT(reader_ == nullptr, "stream::consume while a read waits");
  skip(n);
}

inline void stream_core::skip(std::size_t n) noexcept {
  seen_ -= std::min(seen_, n);
  if (reading_) {
    skip_ += n;  // the raw_stream is at the bytes behind
  } else {
    in_.consume(n);
  }
}

// -- writing -------------------------------------------------------------------

inline void stream_core::write(std::span<const std::byte> from) {
  event_loop& loop = open_loop("stream::write");
  if (write_failure_) std::rethrow_exception(write_failure());
  if (no_more_) {
    throw error(errc::closed, closing_ ? "write to a closed stream" : "write behind write_eof");
  }
  if (unsent() > options.write_limit) {
    throw error(errc::too_large, std::to_string(unsent()) +
                                     " bytes are unsent: await drain() between writes, or raise "
                                     "stream_options::write_limit");
  }
  if (from.size() >= large && unsent() == 0) {
    std::error_code failure;
    const std::size_t n = raw_->write_now(from, failure);
    bytes_written += n;
    from = from.subspan(n);
    if (failure) {
      fail_writes(failure);
      std::rethrow_exception(write_failure());
    }
  }
  if (from.empty()) return;
  (writing_ || !queued_.empty() ? queued_ : sending_).append(from);
  if (flush_due_ || writing_) return;
  flush_due_ = true;
  take();
  loop_access::push_ready(loop, &flush_node_);
}

inline void stream_core::flush() noexcept {
  while (!writing_ && !write_failure_ && unsent() > 0) {
    if (sending_.empty()) sending_.swap(queued_);
    try {
      if (!raw_->write(sending_.readable(), write_)) {
        writing_ = true;
        return;
      }
    } catch (const std::bad_alloc&) {
      return fail_writes(std::make_error_code(std::errc::not_enough_memory));
    }
    if (!take_written()) return;
  }
  if (shut_ == shut::wanted && unsent() == 0 && !writing_ && !write_failure_) shut_down();
}

// False if it failed.
inline bool stream_core::take_written() noexcept {
  sending_.consume(write_.count);
  bytes_written += write_.count;
  if (write_.failure) {
    fail_writes(write_.failure);
    return false;
  }
  sent();
  return true;
}

inline void stream_core::on_written() noexcept {
  writing_ = false;
  if (take_written()) flush();
}

// Some bytes are gone.
inline void stream_core::sent() noexcept {
  if (unsent() == 0) release_buffers();
  if (observer != nullptr) observer->on_write();
  if (unsent() > options.low_water) return;
  while (!drainers_.empty()) drainers_.wake_first();
}

inline void stream_core::release_buffers() noexcept {
  if (sending_.capacity() > most_kept) sending_.release();
  if (queued_.capacity() > most_kept) queued_.release();
}

inline void stream_core::fail_writes(std::error_code why) noexcept {
  write_failure_ = why;
  sending_ = buffer();
  queued_ = buffer();
  shut_ = shut::done;
  if (observer != nullptr) observer->on_write();
  const std::exception_ptr failure = write_failure();
  drainers_.fail_all(failure);
  closers_.fail_all(failure);
}

inline future<> stream_core::drain() {
  event_loop& loop = open_loop("stream::drain");
  flush();
  if (!write_failure_ && unsent() > options.high_water) return drainers_.wait(loop, {this});
  auto* const done = new shared_state<void>(loop);
  done->handed_out = true;
  if (write_failure_) {
    done->fail(write_failure());
  } else {
    done->succeed();
  }
  return future_access::make<void>(done);
}

inline void stream_core::end_writing() {
  static_cast<void>(open_loop("stream::write_eof"));
  if (std::exchange(no_more_, true)) return;
  if (shut_ == shut::no) shut_ = shut::wanted;
  flush();
}

inline void stream_core::shut_down() noexcept {
  shut_ = shut::under_way;
  if (raw_->shut_down(shut_operation_)) on_shut();
}

inline void stream_core::on_shut() noexcept {
  // The other side may have closed by now, with all it was sent.
  const bool gone = shut_operation_.failure == std::errc::not_connected;
  if (shut_operation_.failure && !gone) return fail_writes(shut_operation_.failure);
  shut_ = shut::done;
  while (!closers_.empty()) closers_.wake_first();
}

// -- the end -------------------------------------------------------------------

// Takes no more reads and writes; what is unsent goes on.
inline void stream_core::stop() noexcept {
  closing_ = no_more_ = ended_ = true;
  fail_reader(read_failure());
  if (shut_ == shut::no) shut_ = shut::wanted;
  flush();
}

inline void stream_core::close() noexcept {
  raw_->close();
  reading_ = writing_ = false;
}

inline void stream_core::abort() noexcept {
  closing_ = no_more_ = ended_ = true;
  raw_->reset();
  reading_ = writing_ = false;
  fail_reader(read_failure());
  if (write_failure_) return;
  if (unsent() > 0 || !drainers_.empty() || !closers_.empty()) {
    fail_writes(make_error_code(errc::closed));
  } else {
    shut_ = shut::done;  // nothing is lost by it
  }
}

// Its stream is gone.
inline void stream_core::let_go() noexcept {
  if (closing_) return;  // `close` sees to the rest, or has
  closing_ = no_more_ = ended_ = true;
  fail_reader(read_failure());
  send_now();
  const bool loses = unsent() > 0;
  if (loses) {
    raw_->reset();
  } else {
    // What cannot say farewell now, with bytes of its own before it, has lost them.
    const bool bare = shut_ == shut::done || loop_.get() == nullptr || write_failure_;
    if (bare || (shut_ != shut::under_way && raw_->shut_down(shut_operation_))) {
      raw_->close();
    } else {
      raw_->reset();
    }
  }
  reading_ = writing_ = false;
  if (loses) fail_writes(make_error_code(errc::closed));
}

// For a layer between; with what was read ahead.
inline std::pair<std::unique_ptr<raw_stream>, std::string> stream_core::release() {
  static_cast<void>(open_loop("stream::release"));
  if (reading_ || unsent() > 0 || no_more_) {
    throw error(errc::already_called,
                "stream::release while it reads or writes, or behind its end: drain first, and "
                "leave no read behind that was given up");
  }
  closing_ = no_more_ = ended_ = true;
  shut_ = shut::done;
  return {std::move(raw_), std::string(text())};
}

inline void stream_core::send_now() noexcept {
  if (writing_ || write_failure_ || loop_.get() == nullptr) return;
  for (buffer* each : {&sending_, &queued_}) {
    if (each->empty()) continue;
    const std::size_t n = raw_->write_now(each->readable(), write_failure_);
    each->consume(n);
    bytes_written += n;
    if (!each->empty()) return;
  }
}

}  // namespace detail

}  // namespace pulsar

#include <pulsar/core/detail/stream_members.hpp>
