// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// A datagram socket that tells a protocol: the reads, the queue of what could not be sent, the end.

#include <pulsar/core/address.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/descriptor_table.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/detail/sock.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/protocol.hpp>
#include <pulsar/core/resolve.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <typeinfo>
#include <utility>

namespace pulsar::detail {

/// Belongs to the thread of its loop. Counted by its transports, and by the loop while it is open.
class datagram_core : public counted_here {
 public:
  datagram_core(event_loop& loop,
                unique_fd socket,
                std::shared_ptr<datagram_protocol> told,
                std::size_t limit) noexcept
      : loop_(loop), fd_(std::move(socket)), protocol_(std::move(told)), limit_(limit) {}

  /// To be called from the loop.
  void start() {
    const auto alive = std::make_shared<life>(*this);
    alive_ = alive;
    tell([this](datagram_protocol& p) { made(p); });
    if (lost_) return;
    table().set(fd_.get(), direction::in, [alive] { alive->of->on_readable(); });
  }

  // -- what a transport does
  // -----------------------------------------------------------------------

  /// `to` is null for the one it is connected to.
  void send(std::span<const std::byte> data, const address::endpoint* to) {
    if (closing_ || !protocol_) return;
    if (queue_.empty()) {
      const int code = send_now(data, to);
      if (code == 0) return;
      if (code != EAGAIN) return tell_later(code);
    }
    if (unsent_ + cost_of(data.size()) > limit_) {
      if (!std::exchange(overflowed_, true)) tell_later(ENOBUFS);
      return;
    }
    queue_.push_back({std::string(reinterpret_cast<const char*>(data.data()), data.size()),
                      to != nullptr ? *to : address::endpoint(), to != nullptr});
    unsent_ += cost_of(data.size());
    if (queue_.size() == 1) watch_writable();
    pause_if_high();
  }

  void close() noexcept {
    if (std::exchange(closing_, true)) return;
    const auto alive = alive_.lock();  // the queue keeps it, if there is one
    unwatch(direction::in);
    if (queue_.empty()) lose({});
  }
  void abort() noexcept { lose({}); }

  void limit_writing(std::size_t high, std::size_t low) noexcept {
    high_ = high;
    low_ = low;
    pause_if_high();
  }

  int fd() const noexcept { return fd_.get(); }
  bool is_closing() const noexcept { return closing_ || !protocol_; }
  std::size_t unsent() const noexcept { return unsent_; }

  address address_of(int (*ask)(int, sockaddr*, socklen_t*)) const {
    return address_of_socket(fd_.get(), ask);
  }

 protected:
  ~datagram_core() override = default;
  /// Calls `datagram_protocol::connection_made`.
  virtual void made(datagram_protocol& told) = 0;

 private:
  static constexpr int most_at_once = 32;

  struct datagram {
    std::string data;
    address::endpoint to;
    bool has_address;
  };
  static constexpr std::size_t cost_of(std::size_t size) noexcept {
    return size + sizeof(datagram);
  }

  // What the loop keeps. With it goes the protocol, which may own a transport and so this.
  struct life {
    explicit life(datagram_core& c) noexcept : of(share(c)) {}
    life(const life&) = delete;
    life& operator=(const life&) = delete;
    ~life() {
      of->fd_.reset();
      of->closing_ = of->lost_ = true;
      const auto gone = std::exchange(of->protocol_, nullptr);
    }
    const counted_pointer<datagram_core> of;
  };

  descriptor_table& table() { return loop_access::local<descriptor_table>(*loop_.get()); }

  void watch_writable() {
    table().set(fd_.get(), direction::out, [alive = alive_.lock()] {
      if (alive) alive->of->on_writable();
    });
  }

  // It says that it is writable, and takes nothing: a Unix socket without a peer knows only of its
  // own buffer, not of that of the one who does not read.
  void try_again_later() noexcept {
    try {
      loop_.get()->call_later(std::chrono::milliseconds(10), [alive = alive_.lock()] {
        if (alive && !alive->of->lost_) alive->of->watch_writable();
      });
      unwatch(direction::out);
    } catch (...) {  // then it is asked again at once
    }
  }

  void unwatch(direction what) noexcept {
    event_loop* const loop = loop_.get();
    if (loop == nullptr) return;
    if (auto* const watching = loop_access::find_local<descriptor_table>(*loop)) {
      watching->remove(fd_.get(), what);
    }
  }

  // What the protocol throws concerns one datagram, not the next ones.
  template <class F>
  void tell(F&& f) noexcept {
    const std::shared_ptr<datagram_protocol> kept = protocol_;
    if (!kept) return;
    const datagram_protocol& told = *kept;
    const step_watch::protocol_call step(typeid(told));
    try {
      f(*kept);
    } catch (...) {
      if (event_loop* const loop = loop_.get()) report_callback_failure(*loop);
    }
  }

  // Never inside `send`.
  void tell_later(int code) {
    if (event_loop* const loop = loop_.get()) {
      loop->call_soon([self = share(*this), code] {
        if (!self->lost_) self->tell_error(code);
      });
    }
  }
  void tell_error(int code) noexcept {
    const std::error_code why(code, std::system_category());
    tell([why](datagram_protocol& p) { p.error_received(why); });
  }

  void on_readable() noexcept {
    std::byte chunk[64 * 1024];
    for (int i = 0; i < most_at_once && !closing_; ++i) {
      address::endpoint from;
      auto size = static_cast<socklen_t>(from.capacity());
      const ssize_t n =
          ::recvfrom(fd_.get(), chunk, sizeof chunk, MSG_DONTWAIT | MSG_TRUNC, from.data(), &size);
      if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) tell_error(errno);
        return;
      }
      from.resize(std::min<std::size_t>(size, from.capacity()));
      if (static_cast<std::size_t>(n) > sizeof chunk) {
        tell_error(EMSGSIZE);  // only a Unix socket can
        continue;
      }
      const std::span<const std::byte> data(chunk, static_cast<std::size_t>(n));
      tell([&](datagram_protocol& p) { p.datagram_received(data, from); });
    }
  }

  // 0, EAGAIN if it has to wait, or the error.
  int send_now(std::span<const std::byte> data, const address::endpoint* to) noexcept {
    return send_datagram(fd_.get(), data, to) < 0 ? errno : 0;
  }

  void on_writable() noexcept {
    const std::size_t before = queue_.size();
    for (int i = 0; i < most_at_once && !queue_.empty() && !lost_; ++i) {
      const datagram& next = queue_.front();
      const int code =
          send_now(std::as_bytes(std::span(next.data)), next.has_address ? &next.to : nullptr);
      if (code == EAGAIN) break;
      unsent_ -= cost_of(next.data.size());
      overflowed_ = false;
      queue_.pop_front();
      if (code != 0) tell_error(code);
    }
    if (lost_) return;
    if (queue_.size() == before) return try_again_later();
    if (queue_.empty()) unwatch(direction::out);
    if (write_paused_ && unsent_ <= low_) {
      write_paused_ = false;
      tell([](datagram_protocol& p) { p.resume_writing(); });
    }
    if (closing_ && queue_.empty()) lose({});
  }

  void pause_if_high() noexcept {
    if (write_paused_ || unsent_ <= high_) return;
    write_paused_ = true;
    tell([](datagram_protocol& p) { p.pause_writing(); });
  }

  void lose(std::error_code why) noexcept {
    if (std::exchange(lost_, true)) return;
    closing_ = true;
    queue_.clear();
    unsent_ = 0;
    const auto alive = alive_.lock();
    unwatch(direction::in);
    unwatch(direction::out);
    fd_.reset();
    event_loop* const loop = loop_.get();
    if (loop == nullptr || alive == nullptr) return;
    try {
      loop->call_soon([alive, why] {
        alive->of->tell([why](datagram_protocol& p) { p.connection_lost(why); });
      });
    } catch (...) {  // the loop is about to end
    }
  }

  const loop_ref loop_;
  unique_fd fd_;
  std::shared_ptr<datagram_protocol> protocol_;
  std::weak_ptr<life> alive_;
  std::deque<datagram> queue_;
  std::size_t unsent_ = 0;
  const std::size_t limit_;
  std::size_t high_ = 64 * 1024;
  std::size_t low_ = 16 * 1024;
  bool write_paused_ = false;
  bool overflowed_ = false;  // and it was told
  bool closing_ = false;
  bool lost_ = false;
};

// -- how the socket is made
// --------------------------------------------------------------------------

struct datagram_settings {
  std::optional<address> local;
  std::optional<address> remote;
  bool reuse_port;
  bool broadcast;
  bool ipv6_only;
  std::size_t write_limit;
};

template <class = void>
future<address::endpoint> datagram_endpoint(event_loop& loop, address where, int family) {
  if (where.is_unix()) co_return where.resolve();
  const resolve_options options{.family = family, .type = SOCK_DGRAM};
  const auto found = co_await loop.getaddrinfo(where.host(), where.port(), options);
  co_return found.front().endpoint;
}

inline void set_flag(int fd, int level, int name, bool value, const char* what) {
  const int on = value ? 1 : 0;
  if (::setsockopt(fd, level, name, &on, sizeof on) != 0) {
    throw_system_error(errno, std::string("cannot set ") + what + " on a datagram socket");
  }
}

template <class = void>
future<unique_fd> open_datagram_socket(event_loop& loop, datagram_settings s) {
  if (!s.local && !s.remote) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "create_datagram_endpoint needs a local address, a remote one, or both");
  }
  std::optional<address::endpoint> there;
  if (s.remote) there = co_await datagram_endpoint(loop, *s.remote, AF_UNSPEC);
  std::optional<address::endpoint> here;
  if (s.local) {
    const int family = there ? there->data()->sa_family : AF_UNSPEC;
    here = co_await datagram_endpoint(loop, *s.local, family);
  }
  const int family = (here ? *here : *there).data()->sa_family;
  unique_fd fd =
      above_standard(unique_fd(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
  if (!fd) throw_system_error(errno, "cannot make a datagram socket");
  if (s.reuse_port) set_flag(fd.get(), SOL_SOCKET, SO_REUSEPORT, true, "reuse_port");
  if (s.broadcast) set_flag(fd.get(), SOL_SOCKET, SO_BROADCAST, true, "broadcast");
  if (family == AF_INET6) set_flag(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, s.ipv6_only, "ipv6_only");
  if (here && ::bind(fd.get(), here->data(), static_cast<socklen_t>(here->size())) != 0) {
    throw_system_error(errno, "cannot receive datagrams at " + s.local->to_string());
  }
  if (there && ::connect(fd.get(), there->data(), static_cast<socklen_t>(there->size())) != 0) {
    throw_system_error(errno, "cannot send datagrams to " + s.remote->to_string());
  }
  co_return fd;
}

}  // namespace pulsar::detail
