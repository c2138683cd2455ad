// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// TLS over another raw_stream. OpenSSL reads and writes memory; what it wants from the other side
// is read into that, and what it has for it is written from there.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/raw_stream.hpp>
#include <pulsar/tls/detail/context.hpp>
#include <pulsar/tls/error.hpp>

#include <asio/error.hpp>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

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

inline std::error_code code_of_certificate(long verdict) noexcept {
  switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return errc::expired;
    case X509_V_ERR_CERT_NOT_YET_VALID: return errc::not_yet_valid;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return errc::wrong_host;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return errc::self_signed;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: return errc::unknown_issuer;
    case X509_V_ERR_CERT_REVOKED: return errc::revoked;
    default: return errc::bad_certificate;
  }
}

inline std::error_code code_of_reason(int reason) noexcept {
  switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return errc::no_certificate;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return errc::nothing_in_common;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return pulsar::errc::truncated;
    default: return reason >= SSL_AD_REASON_OFFSET ? errc::refused : errc::malformed;
  }
}

class tls_stream final : public raw_stream {
 public:
  /// `unread`: what has come from `lower` already.
  tls_stream(std::unique_ptr<raw_stream> lower, ssl_pointer ssl, std::string_view unread)
      : lower_(std::move(lower)),
        ssl_(std::move(ssl)),
        input_(BIO_new(BIO_s_mem())),
        output_(BIO_new(BIO_s_mem())) {
    if (input_ == nullptr || output_ == nullptr) {
      BIO_free(input_);
      BIO_free(output_);
      throw std::bad_alloc();
    }
    SSL_set_bio(ssl_.get(), input_, output_);
    if (!unread.empty()) feed(std::as_bytes(std::span(unread)));
  }
  ~tls_stream() override { close(); }

  SSL* ssl() const noexcept { return ssl_.get(); }
  /// What has kept the two from each other, in OpenSSL's words; empty if the code says all.
  const std::string& reason() const noexcept { return reason_; }

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
    if (try_to_write(op)) return true;
    writing_ = &op;
    return false;
  }

  std::size_t read_now(std::span<std::byte> into, std::error_code& failure) noexcept override {
    failure.clear();
    if (reading_ != nullptr || broken_) return 0;
    ERR_clear_error();
    std::size_t n = 0;
    if (SSL_read_ex(ssl_.get(), into.data(), into.size(), &n) != 1) return 0;  // `read` tells why
    flush();
    return n;
  }

  std::size_t write_now(std::span<const std::byte> from,
                        std::error_code& failure) noexcept override {
    failure = write_failure_;
    if (failure || writing_ != nullptr || !is_flushed()) return 0;
    const std::size_t n = encrypt(from, failure);
    flush();
    return n;
  }

  void cancel() noexcept override { lower_->cancel(); }

  bool shut_down(operation& op) override {
    op.count = 0;
    op.failure.clear();
    if (SSL_is_init_finished(ssl_.get()) == 0 || broken_) return true;
    // Whoever has gone needs no farewell.
    farewell_alone_ = is_flushed();
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    flush();
    if (!farewell_alone_) op.failure = write_failure_;
    if (is_flushed() || write_failure_) return true;
    shutting_ = &op;
    return false;
  }

  void close() noexcept override {
    lower_->close();
    forget();
  }
  void reset() noexcept override {
    lower_->reset();
    forget();
  }

  int native_handle() const noexcept override { return lower_->native_handle(); }

 private:
  static constexpr std::size_t most_at_once = 64 * 1024;  // of plain bytes: four records
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

  void forget() noexcept {
    shaking_ = reading_ = writing_ = shutting_ = nullptr;
    lower_reading_ = lower_writing_ = false;
  }

  bool is_flushed() const noexcept {
    return !lower_writing_ && out_.empty() && BIO_ctrl_pending(output_) == 0;
  }

  // -- what comes ------------------------------------------------------------

  void feed(std::span<const std::byte> from) {
    if (BIO_write(input_, from.data(), static_cast<int>(from.size())) !=
        static_cast<int>(from.size())) {
      throw std::bad_alloc();
    }
  }

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
    feed(std::span(room_).first(lower_read_.count));
    std::array<std::byte, 16 * 1024> more;
    for (std::size_t n = lower_read_.count == room_.size() ? 4 : 0; n > 0; --n) {
      const std::size_t size = lower_->read_now(more, end_failure_);
      if (size != 0) feed(std::span(more).first(size));
      if (end_failure_) ended_ = true;
      if (size < more.size()) return;
    }
  }

  void on_lower_read() {
    lower_reading_ = false;
    operation*& waiting = shaking_ != nullptr ? shaking_ : reading_;
    if (lower_read_.failure == asio::error::operation_aborted) {
      if (waiting == nullptr) return;
      waiting->count = 0;
      waiting->failure = lower_read_.failure;
      return end(waiting);
    }
    try {
      take_in();
      if (waiting == nullptr) return;
      while (!(waiting == shaking_ ? try_to_shake(*waiting) : try_to_read(*waiting))) {
        if (!wait_for_input()) return;
      }
    } catch (const std::bad_alloc&) {
      broken_ = std::make_error_code(std::errc::not_enough_memory);
      if (waiting == nullptr) return;
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
    const int result = SSL_do_handshake(ssl_.get());
    return settles(op, result);
  }

  bool try_to_read(operation& op) {
    op.count = 0;
    op.failure = broken_;
    if (broken_) return true;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl_.get(), into_.data(), into_.size(), &op.count);
    return settles(op, result);
  }

  bool settles(operation& op, int result) {
    const int state = SSL_get_error(ssl_.get(), result);
    if (state == SSL_ERROR_SSL) op.failure = broken_ = failure_of_last();
    flush();  // an alert too
    switch (state) {
      case SSL_ERROR_NONE:
      case SSL_ERROR_SSL:
      case SSL_ERROR_ZERO_RETURN: return true;
      case SSL_ERROR_WANT_READ:
        if (!ended_) return false;
        op.failure = end_failure_ ? end_failure_ : make_error_code(pulsar::errc::truncated);
        return true;
      default: op.failure = broken_ = errc::malformed; return true;
    }
  }

  std::error_code failure_of_last() {
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    std::error_code code = code_of_reason(reason);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
      const long verdict = SSL_get_verify_result(ssl_.get());
      code = code_of_certificate(verdict);
      reason_ = X509_verify_cert_error_string(verdict);
      ERR_clear_error();
    } else {
      reason_ = last_reason();
    }
    return code;
  }

  // -- what goes -------------------------------------------------------------

  std::size_t encrypt(std::span<const std::byte> from, std::error_code& failure) noexcept {
    ERR_clear_error();
    std::size_t n = 0;
    const auto part = from.first(std::min(from.size(), most_at_once));
    if (!broken_ && SSL_write_ex(ssl_.get(), part.data(), part.size(), &n) != 1) {
      broken_ = failure_of_last();
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
    }
    return static_cast<bool>(op.failure);
  }

  // Writes what OpenSSL has for the other side, as far as it goes.
  void flush() noexcept {
    try {
      while (!lower_writing_ && !write_failure_) {
        if (out_.empty()) {
          const std::size_t size = BIO_ctrl_pending(output_);
          if (size == 0) break;
          const auto room = out_.prepare(size);
          out_.commit(
              static_cast<std::size_t>(BIO_read(output_, room.data(), static_cast<int>(size))));
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
  }

  void take_out() noexcept {
    out_.consume(lower_write_.count);
    if (lower_write_.failure == asio::error::operation_aborted) {
      write_failure_ = broken_ = errc::unusable;
    } else {
      write_failure_ = lower_write_.failure;
    }
  }

  void on_lower_written() {
    lower_writing_ = false;
    const bool aborted = lower_write_.failure == asio::error::operation_aborted;
    take_out();
    flush();
    if (writing_ != nullptr) {
      if (!try_to_write(*writing_)) return;
      if (aborted) writing_->failure = asio::error::operation_aborted;
      end(writing_);
    } else if (shutting_ != nullptr && (is_flushed() || write_failure_)) {
      if (!farewell_alone_) shutting_->failure = write_failure_;
      end(shutting_);
    }
  }

  const std::unique_ptr<raw_stream> lower_;
  const ssl_pointer ssl_;
  BIO* input_;   // of `ssl_`
  BIO* output_;  // of `ssl_`
  std::string reason_;

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
  operation* shutting_ = nullptr;
  bool farewell_alone_ = false;  // with nothing before it
};

}  // namespace pulsar::tls::detail
