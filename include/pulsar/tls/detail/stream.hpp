// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// TLS over another raw_stream: what OpenSSL wants from the other side is read into its memory, and
// what it has for it is written from there.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/raw_stream.hpp>
#include <pulsar/tls/detail/context.hpp>
#include <pulsar/tls/detail/engine.hpp>
#include <pulsar/tls/error.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pulsar::tls::detail {

class tls_stream final : public raw_stream {
 public:
  /// `unread`: what has come from `lower` already.
  tls_stream(std::unique_ptr<raw_stream> lower, ssl_pointer ssl, std::string_view unread)
      : lower_(std::move(lower)), tls_(std::move(ssl)) {
    if (!unread.empty()) tls_.feed(std::as_bytes(std::span(unread)));
  }
  ~tls_stream() override {
    if (gone_ != nullptr) *gone_ = true;
    close();
  }

  SSL* ssl() const noexcept { return tls_.ssl(); }
  /// What has kept the two from each other, in OpenSSL's words; empty if the code says all.
  const std::string& reason() const noexcept { return tls_.reason(); }

  /// First, and alone.
  bool shake_hands(operation& op) {
    while (!try_to_shake(op)) {
      if (wait_for_input()) continue;
      shaking_ = &op;
      return false;
    }
    return true;
  }

  bool read(std::span<std::byte> into, operation& op) override {
    into_ = into;
    while (!try_to_read(op)) {
      if (wait_for_input()) continue;
      reading_ = &op;
      return false;
    }
    return true;
  }

  bool write(std::span<const std::byte> from, operation& op) override {
    from_ = from;
    accepted_ = 0;
    if (go_on_writing(op)) return true;
    writing_ = &op;
    return false;
  }

  std::size_t read_now(std::span<std::byte> into, std::error_code& failure) noexcept override {
    failure.clear();
    if (reading_ != nullptr || broken_) return 0;
    ERR_clear_error();
    std::size_t n = 0;
    if (SSL_read_ex(tls_.ssl(), into.data(), into.size(), &n) != 1) {
      n = 0;
      // OpenSSL tells it once, and calls it a farewell when it is asked again: `read` tells of it.
      const int state = SSL_get_error(tls_.ssl(), 0);
      if (state == SSL_ERROR_SSL) broken_ = tls_.last_failure();
    }
    flush();
    tls_.shrink_input();
    return n;
  }

  std::size_t write_now(std::span<const std::byte> from,
                        std::error_code& failure) noexcept override {
    failure = write_failure_;
    std::size_t n = 0;
    while (!failure && writing_ == nullptr && n < from.size() && is_flushed()) {
      const std::size_t part = encrypt(from.subspan(n), failure);
      flush();
      if (part == 0) break;
      n += part;
    }
    return n;
  }

  bool shut_down(operation& op) override {
    op.count = 0;
    op.failure.clear();
    leaves_ = true;
    if (go_on_shutting(op)) return true;
    shutting_ = &op;
    return false;
  }

  void close() noexcept override {
    drop_unread();
    lower_->close();
    forget();
  }
  void reset() noexcept override {
    // Without its farewell it is no end in good order, and what was sent arrives.
    if (leaves_ && !said_farewell_ && is_flushed()) {
      lower_->close();
    } else {
      lower_->reset();
    }
    forget();
  }

  int native_handle() const noexcept override { return lower_->native_handle(); }

 private:
  static constexpr std::size_t most_at_once = 64 * 1024;        // of plain bytes: four records
  static constexpr std::size_t most_unsent = 2 * most_at_once;  // with answers, before a read fails
  static constexpr std::size_t most_kept = 4 * 1024;

  struct lower_operation : operation {
    lower_operation(tls_stream& t, function f) noexcept : operation(f), owner(t) {}
    tls_stream& owner;
  };
  static tls_stream& owner_of(operation* op) noexcept {
    return static_cast<lower_operation*>(op)->owner;
  }
  static void read_ended(operation* op) { owner_of(op).on_lower_read(); }
  static void write_ended(operation* op) { owner_of(op).on_lower_written(); }

  static void end(operation*& slot) {
    operation* const op = std::exchange(slot, nullptr);
    op->ended(op);  // last: it may destroy the stream
  }

  // The same where something follows. False if the stream has gone.
  bool end_and_go_on(operation*& slot) {
    bool gone = false;
    gone_ = &gone;
    end(slot);
    if (!gone) gone_ = nullptr;
    return !gone;
  }

  void forget() noexcept {
    shaking_ = reading_ = writing_ = shutting_ = nullptr;
    lower_reading_ = lower_writing_ = false;
  }

  bool is_flushed() const noexcept { return !lower_writing_ && out_.empty() && tls_.unsent() == 0; }

  // Who asks for answers (to renegotiate, say) without end must take them.
  bool leaves_answers() const noexcept { return out_.size() + tls_.unsent() > most_unsent; }

  // A socket that is closed with bytes unread loses what it has not sent yet. TLS 1.3 sends
  // tickets, which lie there unread if this side has only written.
  void drop_unread() noexcept {
    if ((SSL_get_shutdown(tls_.ssl()) & SSL_SENT_SHUTDOWN) == 0 || broken_) return;
    std::error_code ignored;
    for (int i = 0; i < 4; ++i) {
      if (lower_->read_now(room_, ignored) < room_.size()) return;
    }
  }

  // -- what comes ------------------------------------------------------------

  // True if something has come at once, an end too.
  bool wait_for_input() {
    if (lower_reading_) return false;
    lower_reading_ = !lower_->read(room_, lower_read_);
    if (!lower_reading_) take_in();
    return !lower_reading_;
  }

  void take_in() {
    if (lower_read_.failure || lower_read_.count == 0) {
      ended_ = true;
      end_failure_ = lower_read_.failure;
      return;
    }
    tls_.feed(std::span(room_).first(lower_read_.count));
    std::array<std::byte, 16 * 1024> more;
    for (std::size_t n = lower_read_.count == room_.size() ? 4 : 0; n > 0; --n) {
      const std::size_t size = lower_->read_now(more, end_failure_);
      if (size != 0) tls_.feed(std::span(more).first(size));
      if (end_failure_) ended_ = true;
      if (size < more.size()) return;
    }
  }

  void on_lower_read() {
    lower_reading_ = false;
    operation*& waiting = shaking_ != nullptr ? shaking_ : reading_;
    try {
      take_in();
      if (!resume_write() || !resume_shutting() || waiting == nullptr) return;
      while (!(waiting == shaking_ ? try_to_shake(*waiting) : try_to_read(*waiting))) {
        if (!wait_for_input()) return;
      }
    } catch (const std::bad_alloc&) {
      broken_ = std::make_error_code(std::errc::not_enough_memory);
      if (!resume_write() || !resume_shutting() || waiting == nullptr) return;
      waiting->count = 0;
      waiting->failure = broken_;
    }
    end(waiting);
  }

  // -- what OpenSSL does -----------------------------------------------------

  // False if it needs input.
  bool try_to_shake(operation& op) {
    op.count = 0;
    op.failure.clear();
    ERR_clear_error();
    const int result = SSL_do_handshake(tls_.ssl());
    if (!settles(op, result)) return false;
    // A farewell in the middle, which anybody can send.
    if (!op.failure && result != 1) op.failure = broken_ = pulsar::errc::truncated;
    return true;
  }

  bool try_to_read(operation& op) {
    op.count = 0;
    op.failure = broken_;
    if (broken_) return true;
    ERR_clear_error();
    const int result = SSL_read_ex(tls_.ssl(), into_.data(), into_.size(), &op.count);
    return settles(op, result);
  }

  bool settles(operation& op, int result) {
    const int state = SSL_get_error(tls_.ssl(), result);
    if (state == SSL_ERROR_SSL) op.failure = broken_ = tls_.last_failure();
    flush();  // an alert too
    tls_.shrink_input();
    switch (state) {
      case SSL_ERROR_NONE:
      case SSL_ERROR_SSL:
      case SSL_ERROR_ZERO_RETURN: return true;
      case SSL_ERROR_WANT_READ:
        if (leaves_answers()) {
          op.failure = broken_ = errc::malformed;
          return true;
        }
        if (!ended_) return false;
        op.failure = end_failure_ ? end_failure_ : make_error_code(pulsar::errc::truncated);
        return true;
      default: op.failure = broken_ = errc::malformed; return true;
    }
  }

  // -- what goes -------------------------------------------------------------

  std::size_t encrypt(std::span<const std::byte> from, std::error_code& failure) noexcept {
    ERR_clear_error();
    std::size_t n = 0;
    wants_input_ = false;
    const auto part = from.first(std::min(from.size(), most_at_once));
    if (!broken_ && SSL_write_ex(tls_.ssl(), part.data(), part.size(), &n) != 1) {
      n = 0;
      // A message (a ticket) has come in part: the rest has to come first.
      wants_input_ = SSL_get_error(tls_.ssl(), 0) == SSL_ERROR_WANT_READ;
      if (!wants_input_) {
        broken_ = tls_.last_failure();
      } else if (ended_) {
        wants_input_ = false;
        broken_ = end_failure_ ? end_failure_ : make_error_code(pulsar::errc::truncated);
      }
    }
    failure = broken_;
    return n;
  }

  // False if it has to wait until what stands before it, or it itself, is written.
  bool try_to_write(operation& op) {
    op.count = 0;
    op.failure = write_failure_;
    while (!op.failure && is_flushed()) {
      if (accepted_ != 0) {
        op.count = accepted_;
        return true;
      }
      accepted_ = encrypt(from_, op.failure);
      flush();
      if (write_failure_) op.failure = write_failure_;
      if (wants_input_) break;
    }
    return static_cast<bool>(op.failure);
  }

  // The same, and reads what it needs.
  bool go_on_writing(operation& op) {
    while (!try_to_write(op)) {
      try {
        if (!wants_input_ || !wait_for_input()) return false;
      } catch (const std::bad_alloc&) {
        broken_ = std::make_error_code(std::errc::not_enough_memory);
      }
    }
    return true;
  }

  // Of a write that has waited for input. False if the stream has gone.
  bool resume_write() {
    if (!wants_input_ || writing_ == nullptr || !go_on_writing(*writing_)) return true;
    return end_and_go_on(writing_);
  }

  // -- the farewell ----------------------------------------------------------

  // True when it has gone, or cannot go. OpenSSL says it between messages alone: the rest of one
  // that is there in part has to come first.
  bool go_on_shutting(operation& op) noexcept {
    while (!said_farewell_) {
      if (broken_) return true;
      if (is_between_messages()) {
        // Whoever has gone needs no farewell.
        farewell_alone_ = is_flushed();
        ERR_clear_error();
        SSL_shutdown(tls_.ssl());
        said_farewell_ = true;
        flush();
      } else if (ended_ || (SSL_get_shutdown(tls_.ssl()) & SSL_RECEIVED_SHUTDOWN) != 0) {
        op.failure = end_failure_ ? end_failure_ : make_error_code(pulsar::errc::truncated);
        return true;
      } else {
        try {
          if (!broken_ && !wait_for_input()) return false;
        } catch (const std::bad_alloc&) {
          op.failure = broken_ = std::make_error_code(std::errc::not_enough_memory);
        }
      }
    }
    if (!farewell_alone_) op.failure = write_failure_;
    return is_flushed() || write_failure_;
  }

  // Looks at what has come first.
  bool is_between_messages() noexcept {
    if (SSL_is_init_finished(tls_.ssl()) != 0) return true;
    ERR_clear_error();
    char next = 0;
    std::size_t n = 0;
    const int result = SSL_peek_ex(tls_.ssl(), &next, 1, &n);
    if (SSL_get_error(tls_.ssl(), result) == SSL_ERROR_SSL) broken_ = tls_.last_failure();
    flush();
    if (leaves_answers()) broken_ = errc::malformed;
    return !broken_ && SSL_is_init_finished(tls_.ssl()) != 0;
  }

  // False if the stream has gone.
  bool resume_shutting() {
    return shutting_ == nullptr || !go_on_shutting(*shutting_) || end_and_go_on(shutting_);
  }

  // Writes what OpenSSL has for the other side, as far as it goes.
  void flush() noexcept {
    try {
      while (!lower_writing_ && !write_failure_) {
        if (out_.empty()) {
          if (tls_.unsent() == 0) break;
          tls_.move_unsent(out_);
        }
        if (!lower_->write(out_.readable(), lower_write_)) {
          lower_writing_ = true;
          return;
        }
        take_out();
      }
    } catch (const std::bad_alloc&) {
      write_failure_ = std::make_error_code(std::errc::not_enough_memory);
    }
    if (out_.empty() && out_.capacity() > most_kept) out_.release();
    tls_.shrink_output();
  }

  void take_out() noexcept {
    out_.consume(lower_write_.count);
    write_failure_ = lower_write_.failure;
  }

  void on_lower_written() {
    lower_writing_ = false;
    take_out();
    flush();
    if (writing_ != nullptr) {
      if (go_on_writing(*writing_)) end(writing_);
    } else if (shutting_ != nullptr && go_on_shutting(*shutting_)) {
      end(shutting_);
    }
  }

  const std::unique_ptr<raw_stream> lower_;
  engine tls_;

  lower_operation lower_read_{*this, &read_ended};
  std::array<std::byte, 4096> room_;
  bool lower_reading_ = false;
  bool ended_ = false;  // nothing more comes
  std::error_code end_failure_;
  std::error_code broken_;

  lower_operation lower_write_{*this, &write_ended};
  buffer out_;
  bool lower_writing_ = false;
  std::error_code write_failure_;

  operation* shaking_ = nullptr;
  operation* reading_ = nullptr;
  std::span<std::byte> into_;
  operation* writing_ = nullptr;
  std::span<const std::byte> from_;
  std::size_t accepted_ = 0;  // of `from_`, by OpenSSL
  bool wants_input_ = false;  // to go on with `writing_`
  bool* gone_ = nullptr;      // while somebody is told, and something follows
  operation* shutting_ = nullptr;
  bool leaves_ = false;  // `shut_down` was called
  bool said_farewell_ = false;
  bool farewell_alone_ = false;  // with nothing before it
};

}  // namespace pulsar::tls::detail
