// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// How a stream reads, writes and ends.

#include <pulsar/core/stream.hpp>

#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

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
  if (!peer.is_unix() || !peer.path().empty()) return peer.to_string();
  const int fd = raw_->native_handle();
  struct stat what {};
  const bool is_pipe = fd >= 0 && ::fstat(fd, &what) == 0 && S_ISFIFO(what.st_mode);
  return is_pipe ? "a pipe (descriptor " + std::to_string(fd) + ")" : "the other side";
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
