// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// OpenSSL's contexts: how they are made from files.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/error.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pulsar::tls {
class context;
}

namespace pulsar::tls::detail {

struct ssl_free {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
using context_pointer = std::unique_ptr<SSL_CTX, ssl_free>;
using ssl_pointer = std::unique_ptr<SSL, ssl_free>;

/// "h2,http/1.1" as it goes over the wire: each name behind its length.
inline std::string alpn_list(std::string_view names) {
  std::string result;
  while (!names.empty()) {
    const auto comma = names.find(',');
    const auto name = names.substr(0, comma);
    if (name.empty() || name.size() > 255) {
      throw error(std::make_error_code(std::errc::invalid_argument),
                  "alpn wants names of protocols with commas between them, as in \"h2,http/1.1\"");
    }
    result += static_cast<char>(static_cast<unsigned char>(name.size()));
    result += name;
    names.remove_prefix(comma == names.npos ? names.size() : comma + 1);
  }
  return result;
}

/// Why OpenSSL has failed, in its words; that is forgotten then. The first cause stands first.
inline std::string last_reason() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(code)) {
    return std::system_category().message(static_cast<int>(ERR_GET_REASON(code)));
  }
  const char* const text = ERR_reason_error_string(code);
  return text != nullptr ? text : "unknown reason";
}

struct context_settings {
  bool is_server;
  bool verify;
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  std::string pass_phrase;
  std::string alpn;
};

/// What OpenSSL is told when it wants a pass phrase: nobody is there who could be asked.
struct pass_phrase_answer {
  const std::string& phrase;
  bool asked = false;

  static int answer(char* into, int size, int, void* self) noexcept {
    auto* const mine = static_cast<pass_phrase_answer*>(self);
    if (mine == nullptr) return -1;
    mine->asked = true;
    const std::string& phrase = mine->phrase;
    if (phrase.empty() || phrase.size() > static_cast<std::size_t>(size)) return -1;
    std::memcpy(into, phrase.data(), phrase.size());
    return static_cast<int>(phrase.size());
  }
};

class context_state : public pulsar::detail::counted {
 public:
  explicit context_state(context_settings settings)
      : settings_(std::move(settings)), context_(make()) {}

  void reload() { context_ = make(); }

  SSL_CTX* get() const noexcept { return context_.get(); }
  bool is_server() const noexcept { return settings_.is_server; }
  bool verifies() const noexcept { return settings_.verify; }

 private:
  [[noreturn]] static void refuse(const std::string& what) {
    throw error(std::make_error_code(std::errc::invalid_argument), what);
  }
  /// A file that cannot be read is the system's failure, and its code says why already.
  [[noreturn]] static void fail(const std::string& what) {
    const unsigned long code = ERR_peek_error();
    if (!ERR_SYSTEM_ERROR(code)) refuse(what + ": " + last_reason());
    ERR_clear_error();
    throw error({static_cast<int>(ERR_GET_REASON(code)), std::system_category()}, what);
  }

  context_pointer make() const;
  void load_certificate(SSL_CTX* to) const;
  void load_authorities(SSL_CTX* to) const;
  static int select_protocol(SSL*,
                             const unsigned char** chosen,
                             unsigned char* size,
                             const unsigned char* offered,
                             unsigned int offered_size,
                             void* self) noexcept;

  const context_settings settings_;
  context_pointer context_;
};

inline context_pointer context_state::make() const {
  ERR_clear_error();
  context_pointer made(
      SSL_CTX_new(settings_.is_server ? TLS_server_method() : TLS_client_method()));
  if (made == nullptr) fail("OpenSSL cannot be used");
  SSL_CTX* const to = made.get();
  SSL_CTX_set_min_proto_version(to, TLS1_2_VERSION);
  SSL_CTX_set_options(to, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(to, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  // A session is resumed by the ticket that its client keeps. Of clients without tickets OpenSSL
  // would keep 20,480 here.
  SSL_CTX_set_session_cache_mode(to, SSL_SESS_CACHE_OFF);
  load_certificate(to);
  load_authorities(to);
  if (settings_.is_server) {
    static constexpr unsigned char sessions[] = "pulsar";
    SSL_CTX_set_session_id_context(to, sessions, sizeof sessions - 1);
    if (!settings_.alpn.empty()) {
      SSL_CTX_set_alpn_select_cb(to, &select_protocol, const_cast<context_state*>(this));
    }
  }
  return made;
}

inline void context_state::load_certificate(SSL_CTX* to) const {
  const std::string& chain = settings_.certificate_file;
  const std::string& key = settings_.key_file;
  if (chain.empty() && key.empty() && !settings_.is_server) return;
  if (chain.empty() || key.empty()) refuse("certificate_file and key_file go together");
  pass_phrase_answer answer{settings_.pass_phrase};
  SSL_CTX_set_default_passwd_cb(to, &pass_phrase_answer::answer);
  SSL_CTX_set_default_passwd_cb_userdata(to, &answer);
  if (SSL_CTX_use_certificate_chain_file(to, chain.c_str()) != 1) {
    fail("cannot read the certificate chain in " + chain);
  }
  if (SSL_CTX_use_PrivateKey_file(to, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    if (answer.asked && ERR_GET_REASON(ERR_peek_error()) != X509_R_KEY_VALUES_MISMATCH) {
      ERR_clear_error();
      refuse(answer.phrase.empty()
                 ? "the private key in " + key + " is protected: give its pass_phrase"
                 : "pass_phrase does not open the private key in " + key);
    }
    fail("cannot use the private key in " + key + " with the certificate in " + chain);
  }
  SSL_CTX_set_default_passwd_cb_userdata(to, nullptr);
}

inline void context_state::load_authorities(SSL_CTX* to) const {
  if (!settings_.verify) {
    SSL_CTX_set_verify(to, SSL_VERIFY_NONE, nullptr);
    return;
  }
  const std::string& file = settings_.ca_file;
  if (file.empty()) {
    if (SSL_CTX_set_default_verify_paths(to) != 1) fail("cannot read the system's authorities");
  } else if (SSL_CTX_load_verify_file(to, file.c_str()) != 1) {
    fail("cannot read the certificates of authorities in " + file);
  }
  int how = SSL_VERIFY_PEER;
  if (settings_.is_server) {
    how |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    // Whom a client may show a certificate of. Read from there, not from the file once more.
    const auto* const trusted = X509_STORE_get0_objects(SSL_CTX_get_cert_store(to));
    for (int i = 0; i < sk_X509_OBJECT_num(trusted); ++i) {
      X509* const each = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(trusted, i));
      if (each != nullptr) SSL_CTX_add_client_CA(to, each);
    }
  }
  SSL_CTX_set_verify(to, how, nullptr);
}

inline int context_state::select_protocol(SSL*,
                                          const unsigned char** chosen,
                                          unsigned char* size,
                                          const unsigned char* offered,
                                          unsigned int offered_size,
                                          void* self) noexcept {
  const std::string& mine = static_cast<const context_state*>(self)->settings_.alpn;
  unsigned char* found = nullptr;
  const int how =
      SSL_select_next_proto(&found, size, reinterpret_cast<const unsigned char*>(mine.data()),
                            static_cast<unsigned int>(mine.size()), offered, offered_size);
  *chosen = found;
  return how == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

struct context_access {
  template <class Context>
  static const pulsar::detail::counted_pointer<context_state>& state(const Context& c) noexcept {
    return c.state_;
  }
};

}  // namespace pulsar::tls::detail
