// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Who is at the other side of a connection, and whether a failure means that it has gone.

#include <pulsar/core/address.hpp>
#include <pulsar/core/error.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <exception>
#include <string>
#include <system_error>

namespace pulsar::detail {

/// The other side has gone, or the network: nothing that the handler could have done better.
inline bool is_loss_of_peer(const std::exception_ptr& failure) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    const std::error_code code = e.code();
    return code == std::errc::connection_reset || code == std::errc::broken_pipe ||
           code == std::errc::connection_aborted || code == std::errc::not_connected ||
           code == errc::truncated ||
           (code == std::errc::timed_out && code.category() == std::system_category());
  } catch (...) {
    return false;
  }
}

/// Who is at the other end of a socket, as it was when that was there; small, and its name is made
/// when somebody wants it.
class socket_peer {
 public:
  explicit socket_peer(int fd) noexcept {
    socklen_t size = sizeof at_;
    if (fd < 0 || ::getpeername(fd, reinterpret_cast<sockaddr*>(&at_), &size) != 0) at_ = {};
  }
  /// "127.0.0.1:50112", or "a connection" if it has no address.
  std::string name() const {
    if (at_.sin6_family != AF_INET && at_.sin6_family != AF_INET6) return "a connection";
    return address::of(address::endpoint(&at_, sizeof at_)).to_string();
  }

 private:
  sockaddr_in6 at_{};  // or a sockaddr_in
};

}  // namespace pulsar::detail
