// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Certificates for tests, made when they are needed: nothing secret lies in the repository.
///
///     const authority ca("test authority");
///     const auto mine = ca.issue("localhost", "DNS:localhost,IP:127.0.0.1");
///     ca.file(); mine.certificate_file(); mine.key_file();   // PEM, removed with the object

#include <doctest/doctest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

namespace certificates {

struct free_openssl {
  void operator()(X509* c) const noexcept { X509_free(c); }
  void operator()(EVP_PKEY* k) const noexcept { EVP_PKEY_free(k); }
};
using certificate_pointer = std::unique_ptr<X509, free_openssl>;
using key_pointer = std::unique_ptr<EVP_PKEY, free_openssl>;

/// A file of its own; removed at the end.
class scratch_file {
 public:
  scratch_file() {
    std::string name = "/tmp/pulsar_certificate_XXXXXX";
    const int fd = ::mkstemp(name.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    name_ = name;
  }
  scratch_file(scratch_file&& other) noexcept : name_(std::exchange(other.name_, {})) {}
  scratch_file& operator=(scratch_file&&) = delete;
  ~scratch_file() {
    if (!name_.empty()) std::remove(name_.c_str());
  }
  const std::string& name() const noexcept { return name_; }

 private:
  std::string name_;
};

/// A certificate and its key, in files.
struct identity {
  /// The key is protected if there is a pass phrase.
  identity(X509* certificate, EVP_PKEY* key, const std::string& pass_phrase = {}) {
    write(certificate, key, pass_phrase);
  }

  void write(X509* certificate, EVP_PKEY* key, const std::string& pass_phrase = {}) {
    std::FILE* out = std::fopen(certificate_.name().c_str(), "w");
    PEM_write_X509(out, certificate);
    std::fclose(out);
    out = std::fopen(key_.name().c_str(), "w");
    PEM_write_PKCS8PrivateKey(out, key, pass_phrase.empty() ? nullptr : EVP_aes_128_cbc(),
                              pass_phrase.data(), static_cast<int>(pass_phrase.size()), nullptr,
                              nullptr);
    std::fclose(out);
  }
  const std::string& certificate_file() const noexcept { return certificate_.name(); }
  const std::string& key_file() const noexcept { return key_.name(); }

 private:
  scratch_file certificate_;
  scratch_file key_;
};

/// When a certificate is valid, in days from now.
struct validity {
  long from = -1;
  long until = 2;
};

inline certificate_pointer make_certificate(const std::string& name,
                                            const std::string& alternatives,
                                            EVP_PKEY* key,
                                            X509* issuer,
                                            EVP_PKEY* issuer_key,
                                            validity when) {
  static long serial = 1;
  certificate_pointer made(X509_new());
  X509* const c = made.get();
  X509_set_version(c, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(c), when.from * 86400);
  X509_gmtime_adj(X509_getm_notAfter(c), when.until * 86400);
  X509_set_pubkey(c, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(c, X509_get_subject_name(issuer != nullptr ? issuer : c));
  const auto extend = [&](int what, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer != nullptr ? issuer : c, c, nullptr, nullptr, 0);
    X509_EXTENSION* const e = X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
    REQUIRE(e != nullptr);
    X509_add_ext(c, e, -1);
    X509_EXTENSION_free(e);
  };
  if (alternatives.empty()) {
    extend(NID_basic_constraints, "critical,CA:TRUE");
    extend(NID_key_usage, "critical,keyCertSign,cRLSign");
  } else {
    extend(NID_basic_constraints, "CA:FALSE");
    extend(NID_subject_alt_name, alternatives);
  }
  REQUIRE(X509_sign(c, issuer_key != nullptr ? issuer_key : key, EVP_sha256()) > 0);
  return made;
}

inline key_pointer make_key() {
  key_pointer key(EVP_EC_gen("P-256"));
  REQUIRE(key != nullptr);
  return key;
}

/// Issues certificates.
class authority {
 public:
  explicit authority(const std::string& name)
      : key_(make_key()),
        certificate_(make_certificate(name, "", key_.get(), nullptr, nullptr, {})),
        files_(certificate_.get(), key_.get()) {}

  const std::string& file() const noexcept { return files_.certificate_file(); }

  identity issue(const std::string& name,
                 const std::string& alternatives,
                 validity when = {},
                 const std::string& pass_phrase = {}) const {
    const key_pointer key = make_key();
    return {
        make_certificate(name, alternatives, key.get(), certificate_.get(), key_.get(), when).get(),
        key.get(), pass_phrase};
  }

 private:
  key_pointer key_;
  certificate_pointer certificate_;
  identity files_;
};

/// One that nobody has issued.
inline identity self_signed(const std::string& name, const std::string& alternatives) {
  const key_pointer key = make_key();
  return {make_certificate(name, alternatives, key.get(), nullptr, nullptr, {}).get(), key.get()};
}

}  // namespace certificates
