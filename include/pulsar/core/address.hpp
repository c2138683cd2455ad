// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Where a server listens: "127.0.0.1:8060", ":8060", "localhost", "[::1]:8060",
/// "unix:/run/app.sock".
///
///     const pulsar::address where("[::1]:8060");
///     where.host();                      // "::1"
///     where.to_string();                 // "[::1]:8060"
///     auto endpoint = where.resolve();   // for bind and connect
///
/// Text that is no address is refused with a sentence that says what is wrong with it. In log
/// lines: address_format.hpp.

#include <pulsar/core/error.hpp>

#include <asio/error.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

/// A host and a port, or the path of a Unix socket.
class address {
 public:
  /// An address as the system has it, of any family.
  using endpoint = asio::generic::stream_protocol::endpoint;

  static constexpr std::uint16_t default_port = 8060;

  /// 127.0.0.1:8060, reachable from this machine alone.
  address() : host_("127.0.0.1") {}

  /// Reads "HOST:PORT", "HOST" (port 8060), ":PORT" (every IPv4 interface), "[IPv6]:PORT" or
  /// "unix:PATH". HOST is a name or a number; port 0 stands for any free one.
  ///
  /// Throws `std::invalid_argument`; its text is one sentence that quotes `text`.
  explicit address(std::string_view text);

  /// What an endpoint of Asio or the system says; it may be as long as a `sockaddr_storage`. Throws
  /// `std::invalid_argument` for one that is too short, or of a family that is neither IP nor Unix.
  static address of(const endpoint& where);

  bool is_unix() const noexcept { return is_unix_; }

  /// The name or number of the host, without brackets; empty for a Unix socket.
  const std::string& host() const noexcept { return host_; }

  /// 0 for any free port, and for a Unix socket.
  std::uint16_t port() const noexcept { return port_; }

  /// The path of a Unix socket; empty for the others, and for the unnamed end of a connection.
  const std::string& path() const noexcept { return path_; }

  /// The form that the constructor reads.
  std::string to_string() const {
    if (is_unix_) return "unix:" + path_;
    const bool bare = host_.find(':') == std::string::npos;
    return (bare ? host_ : "[" + host_ + "]") + ":" + std::to_string(port_);
  }

  /// The address for the system. A name is looked up, which may block for seconds; of several
  /// addresses the first IPv4 one is taken, then the first IPv6 one.
  ///
  /// Throws `pulsar::error` with the code of the look-up if the name is not known.
  endpoint resolve() const;

  bool operator==(const address&) const = default;

 private:
  void read_host_and_port(std::string_view text);
  static std::uint16_t read_port(std::string_view digits, std::string_view text);
  static bool is_name(std::string_view host) noexcept;

  [[noreturn]] static void refuse(std::string_view text, std::string_view why) {
    throw std::invalid_argument("\"" + std::string(text) + "\" is no address: " + std::string(why));
  }

  std::string host_;
  std::string path_;
  std::uint16_t port_ = default_port;
  bool is_unix_ = false;
};

inline address::address(std::string_view text) {
  constexpr std::string_view scheme = "unix:";
  if (text.empty()) refuse(text, "write HOST:PORT, :PORT, [IPv6]:PORT or unix:PATH");
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    refuse(text.substr(0, nul), "a NUL byte follows");
  }
  if (!text.starts_with(scheme)) {
    read_host_and_port(text);
    return;
  }
  is_unix_ = true;
  port_ = 0;
  path_ = text.substr(scheme.size());
  if (path_.empty()) refuse(text, "the path of the Unix socket is missing");
  if (path_.size() >= sizeof(sockaddr_un::sun_path)) {
    refuse(text, "the path of a Unix socket has at most " +
                     std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes");
  }
}

inline void address::read_host_and_port(std::string_view text) {
  std::string_view host = text;
  std::string_view rest;  // from the colon before the port
  if (text.front() == '[') {
    const auto bracket = text.find(']');
    if (bracket == std::string_view::npos) refuse(text, "the bracket is not closed");
    host = text.substr(1, bracket - 1);
    rest = text.substr(bracket + 1);
    if (!rest.empty() && rest.front() != ':') refuse(text, "only :PORT may follow the bracket");
    std::error_code bad;
    asio::ip::make_address_v6(std::string(host), bad);
    if (bad) refuse(text, "what stands in brackets is no IPv6 address");
  } else if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    rest = text.substr(colon);
    if (rest.find(':', 1) != std::string_view::npos) {
      refuse(text, text.find("//") != std::string_view::npos
                       ? "it is a URL: write HOST:PORT alone"
                       : "it has two colons: an IPv6 address stands in brackets, as in [::1]:8060");
    }
    if (host.empty()) host = "0.0.0.0";
  }
  if (!rest.empty()) port_ = read_port(rest.substr(1), text);
  if (text.front() != '[' && !is_name(host)) {
    refuse(text, host.find_first_not_of("0123456789") == std::string_view::npos
                     ? "a port alone is written :" + std::string(host)
                     : "the host is neither a name nor an IPv4 address");
  }
  host_ = host;
}

inline std::uint16_t address::read_port(std::string_view digits, std::string_view text) {
  if (digits.empty()) refuse(text, "the port is missing");
  unsigned value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') refuse(text, "the port is not a number");
    value = value * 10 + static_cast<unsigned>(c - '0');
    if (value > 65535) refuse(text, "the port is over 65535");
  }
  return static_cast<std::uint16_t>(value);
}

inline bool address::is_name(std::string_view host) noexcept {
  bool numeric = true;
  for (const char c : host) {
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!digit && !letter && c != '.' && c != '-' && c != '_') return false;
    numeric = numeric && (digit || c == '.');
  }
  if (host.empty() || host.size() > 253 || host.front() == '.') return false;
  if (host.find("..") != std::string_view::npos) return false;
  if (!numeric) return true;
  // Not what inet_aton takes, for which 8060 is an address too.
  std::error_code bad;
  asio::ip::make_address_v4(std::string(host), bad);
  return !bad;
}

inline address address::of(const endpoint& where) {
  address result;
  const int family = where.size() < sizeof(sa_family_t) ? AF_UNSPEC : where.data()->sa_family;
  switch (family) {
    case AF_INET:
    case AF_INET6: {
      asio::ip::tcp::endpoint tcp;
      const std::size_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
      if (where.size() < size) {
        throw std::invalid_argument("an IP endpoint of " + std::to_string(where.size()) +
                                    " bytes is no whole one");
      }
      std::memcpy(tcp.data(), where.data(), size);
      result.host_ = tcp.address().to_string();
      result.port_ = tcp.port();
      return result;
    }
    case AF_UNIX: {
      asio::local::stream_protocol::endpoint local;
      const std::size_t size = std::min(where.size(), local.capacity());
      std::memcpy(local.data(), where.data(), size);
      local.resize(size);
      result.host_.clear();
      result.path_ = local.path();
      // The zeros behind a path are no part of it; the one before an abstract name is.
      if (!result.path_.starts_with('\0')) result.path_.resize(std::strlen(result.path_.c_str()));
      result.port_ = 0;
      result.is_unix_ = true;
      return result;
    }
    default:
      throw std::invalid_argument("address family " + std::to_string(family) +
                                  " is neither IP nor Unix");
  }
}

inline address::endpoint address::resolve() const {
  if (is_unix_) return asio::local::stream_protocol::endpoint(path_);
  std::error_code no_number;
  const auto number = asio::ip::make_address(host_, no_number);
  if (!no_number) return asio::ip::tcp::endpoint(number, port_);

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* first = nullptr;
  const int code = ::getaddrinfo(host_.c_str(), nullptr, &hints, &first);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> found(first, &::freeaddrinfo);
  if (code == 0) {
    for (const int family : {AF_INET, AF_INET6}) {
      for (const addrinfo* each = first; each != nullptr; each = each->ai_next) {
        if (each->ai_family != family) continue;
        asio::ip::tcp::endpoint tcp;
        std::memcpy(tcp.data(), each->ai_addr, each->ai_addrlen);
        tcp.port(port_);
        return tcp;
      }
    }
  }
  const bool later = code == EAI_AGAIN;
  throw error(later ? make_error_code(asio::error::host_not_found_try_again)
                    : make_error_code(asio::error::host_not_found),
              "the host of " + to_string() +
                  (later ? " cannot be looked up now: is the name server reachable?"
                         : " is not known: check its name"));
}

namespace detail {

/// What getsockname or getpeername says of `fd`: an unnamed Unix address if it has none, or one of
/// another kind (AF_VSOCK).
inline address address_of_socket(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
  address::endpoint at;
  auto size = static_cast<socklen_t>(at.capacity());
  if (fd >= 0 && ask(fd, at.data(), &size) == 0) {
    at.resize(size);
    const int family = at.data()->sa_family;
    if (family == AF_INET || family == AF_INET6 || family == AF_UNIX) return address::of(at);
  }
  return address::of(asio::local::stream_protocol::endpoint());
}

}  // namespace detail

}  // namespace pulsar
