// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What <pulsar/core/resolve.hpp> asks the system, and what it makes of the answers.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/resolve.hpp>

#include <asio/error.hpp>
#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::detail {

[[noreturn]] inline void throw_look_up_failure(int code, int system, const std::string& what) {
  std::error_code why = asio::error::host_not_found;
  const char* sentence = " is not known: check its name";
  switch (code) {
    case EAI_MEMORY: throw std::bad_alloc();
    case EAI_SYSTEM: throw_system_error(system, what + " cannot be looked up");
    case EAI_AGAIN:
      why = asio::error::host_not_found_try_again;
      sentence = " cannot be looked up now: is the name server reachable?";
      break;
    case EAI_FAIL:
      why = asio::error::no_recovery;
      sentence = " cannot be looked up: the name server refuses to answer";
      break;
    case EAI_SERVICE:
      why = asio::error::service_not_found;
      sentence = " is no known service: give the number of its port";
      break;
    case EAI_SOCKTYPE:
      why = asio::error::socket_type_not_supported;
      sentence = " was asked for with a type of socket that the system does not know";
      break;
    case EAI_FAMILY:
      why = asio::error::address_family_not_supported;
      sentence = " was asked for in a family that the system does not know";
      break;
    case EAI_BADFLAGS:
      why = std::make_error_code(std::errc::invalid_argument);
      sentence = " was asked for with flags that the system refuses";
      break;
    default: break;
  }
  throw error(why, what + sentence);
}

// The system would look up what stands before it.
inline void refuse_zero_in_name(const std::string& name) {
  if (name.find('\0') == name.npos) return;
  throw error(std::make_error_code(std::errc::invalid_argument),
              "a name with a zero byte in it cannot be looked up");
}

inline std::vector<resolved_address> look_up(const std::string& host,
                                             const std::string& service,
                                             const resolve_options& options) {
  addrinfo hints{};
  hints.ai_family = options.family;
  hints.ai_socktype = options.type;
  hints.ai_protocol = options.protocol;
  hints.ai_flags = options.flags;
  addrinfo* first = nullptr;
  const int code = ::getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                 service.empty() ? nullptr : service.c_str(), &hints, &first);
  const int system = errno;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> found(first, &::freeaddrinfo);
  if (code != 0) {
    throw_look_up_failure(code, system,
                          code == EAI_SERVICE ? '"' + service + '"' : "the host \"" + host + '"');
  }
  std::vector<resolved_address> result;
  for (const addrinfo* each = first; each != nullptr; each = each->ai_next) {
    auto& one = result.emplace_back();
    if (each->ai_addrlen > one.endpoint.capacity()) {
      result.pop_back();
      continue;
    }
    one.endpoint = address::endpoint(each->ai_addr, each->ai_addrlen, each->ai_protocol);
    one.family = each->ai_family;
    one.type = each->ai_socktype;
    one.protocol = each->ai_protocol;
    if (each->ai_canonname != nullptr) one.canonical_name = each->ai_canonname;
  }
  if (result.empty()) throw_look_up_failure(EAI_NONAME, 0, "the host \"" + host + '"');
  return result;
}

/// What needs no look-up: numbers, of one type of socket.
inline std::optional<resolved_address> read_numbers(const std::string& host,
                                                    const std::string& service,
                                                    const resolve_options& options) {
  const bool stream = options.type == SOCK_STREAM;
  if ((!stream && options.type != SOCK_DGRAM) || options.protocol != 0) return std::nullopt;
  if ((options.flags & ~(AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV)) != 0) return std::nullopt;
  std::uint16_t port = 0;
  const char* const end = service.data() + service.size();
  const auto [read_to, bad_port] = std::from_chars(service.data(), end, port);
  if (bad_port != std::errc() || read_to != end) return std::nullopt;
  std::error_code no_number;
  const auto number = asio::ip::make_address(host, no_number);
  if (no_number) return std::nullopt;
  const int family = number.is_v4() ? AF_INET : AF_INET6;
  if (options.family != AF_UNSPEC && options.family != family) return std::nullopt;
  resolved_address result;
  result.endpoint = asio::ip::tcp::endpoint(number, port);
  result.family = family;
  result.type = options.type;
  result.protocol = stream ? IPPROTO_TCP : IPPROTO_UDP;
  return result;
}

inline resolved_name look_up_name(const address::endpoint& where, int flags) {
  char host[NI_MAXHOST];
  char service[NI_MAXSERV];
  const int code = ::getnameinfo(where.data(), static_cast<socklen_t>(where.size()), host,
                                 sizeof host, service, sizeof service, flags);
  if (code != 0) {
    const int system = errno;
    throw_look_up_failure(code, system, "the name of an endpoint");
  }
  return {host, service};
}

}  // namespace pulsar::detail
