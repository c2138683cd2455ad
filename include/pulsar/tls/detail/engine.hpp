// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// OpenSSL's part of one connection, which reads and writes memory, and what its failures are called
// here.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/tls/detail/context.hpp>
#include <pulsar/tls/error.hpp>

#include <openssl/bio.h>
#include <openssl/buffer.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <cstddef>
#include <new>
#include <span>
#include <string>
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

class engine {
 public:
  explicit engine(ssl_pointer ssl)
      : ssl_(std::move(ssl)), input_(BIO_new(BIO_s_mem())), output_(BIO_new(BIO_s_mem())) {
    if (input_ == nullptr || output_ == nullptr) {
      BIO_free(input_);
      BIO_free(output_);
      throw std::bad_alloc();
    }
    SSL_set_bio(ssl_.get(), input_, output_);
  }

  SSL* ssl() const noexcept { return ssl_.get(); }

  /// Gives it what has come.
  void feed(std::span<const std::byte> from) {
    if (BIO_write(input_, from.data(), static_cast<int>(from.size())) !=
        static_cast<int>(from.size())) {
      throw std::bad_alloc();
    }
  }

  /// How much it has for the other side.
  std::size_t unsent() const noexcept { return BIO_ctrl_pending(output_); }

  /// Appends that to `into`.
  void move_unsent(buffer& into) {
    const std::size_t size = unsent();
    const auto room = into.prepare(size);
    into.commit(static_cast<std::size_t>(BIO_read(output_, room.data(), static_cast<int>(size))));
  }

  void shrink_input() noexcept { shrink(input_); }
  void shrink_output() noexcept { shrink(output_); }

  /// Why it has failed last; that is forgotten then.
  std::error_code last_failure() {
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
  /// The same in OpenSSL's words.
  const std::string& reason() const noexcept { return reason_; }

 private:
  static constexpr std::size_t most_kept = 8 * 1024;

  // A memory BIO keeps the room that it had once.
  static void shrink(BIO* bio) noexcept {
    BUF_MEM* room = nullptr;
    if (BIO_ctrl_pending(bio) != 0 || BIO_get_mem_ptr(bio, &room) != 1) return;
    if (room->max <= most_kept) return;
    if (BUF_MEM* const fresh = BUF_MEM_new()) BIO_set_mem_buf(bio, fresh, BIO_CLOSE);
  }

  const ssl_pointer ssl_;
  BIO* const input_;   // of `ssl_`
  BIO* const output_;  // of `ssl_`
  std::string reason_;
};

}  // namespace pulsar::tls::detail
