// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What can go wrong with TLS: `tls::errc` and its category.
///
///     try {
///       stream s = co_await tls::connect("intranet.example:443");
///     } catch (const pulsar::error& e) {
///       if (e.code() == tls::errc::unknown_issuer) ...   // e.what() says what to do
///     }
///
/// A stream that ends without the farewell of TLS fails with `pulsar::errc::truncated`: somebody
/// may have cut it off.

#include <string>
#include <system_error>
#include <type_traits>

namespace pulsar::tls {

enum class errc {
  /// The certificate of the other side is not valid any more, or not yet.
  expired = 1,
  not_yet_valid,
  /// It is for another host.
  wrong_host,
  /// It was issued by somebody who is not trusted here.
  unknown_issuer,
  /// By the other side itself.
  self_signed,
  revoked,
  /// It does not hold for another reason, which the text of the exception names.
  bad_certificate,
  /// A client was asked for a certificate and showed none.
  no_certificate,
  /// The other side has refused; the text of the exception says how.
  refused,
  /// There is no version, cipher or protocol (ALPN) that both sides know.
  nothing_in_common,
  /// What came is no TLS, or was changed on its way, or asks for answers that nobody takes.
  malformed,
};

namespace detail {

class tls_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "pulsar.tls"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::expired:
        return "the certificate of the other side has expired: it must be renewed, unless the "
               "clock "
               "here is wrong";
      case errc::not_yet_valid:
        return "the certificate of the other side is not valid yet: is the clock here right?";
      case errc::wrong_host:
        return "the certificate is for another host: connect by a name that it is for, or give "
               "that "
               "as server_name";
      case errc::unknown_issuer:
        return "the certificate was issued by an authority that is not trusted here: name the file "
               "of its certificate as ca_file";
      case errc::self_signed:
        return "the certificate is signed by itself: name its file as ca_file to trust it";
      case errc::revoked: return "the certificate was revoked";
      case errc::bad_certificate: return "the certificate does not hold";
      case errc::no_certificate: return "the other side has shown no certificate";
      case errc::refused: return "the other side has refused";
      case errc::nothing_in_common:
        return "no version, cipher and protocol that both sides know (here: TLS 1.2 and 1.3)";
      case errc::malformed:
        return "what came is no TLS: does the other side speak it on this port?";
    }
    return "unknown TLS error";
  }
};

}  // namespace detail

/// The category of `errc`, named "pulsar.tls".
inline const std::error_category& error_category() noexcept {
  // Never destroyed: threads that are joined behind main still name it.
  static const auto* const instance = new detail::tls_category;
  return *instance;
}

/// Found by argument-dependent look-up when an `errc` becomes a `std::error_code`.
inline std::error_code make_error_code(errc value) noexcept {
  return {static_cast<int>(value), error_category()};
}

}  // namespace pulsar::tls

template <>
struct std::is_error_code_enum<pulsar::tls::errc> : std::true_type {};
