// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `accept_each`: the accept loop of a server.
///
///     auto accepting = pulsar::accept_each(loop, std::move(at), [](pulsar::unique_fd connection) {
///       serve(std::move(connection));
///     });
///     accepting.cancel();   // stops accepting and closes the listener here
///
/// It is made for several processes or threads on one socket, and for the hour in which the
/// descriptors run out.

#include <pulsar/core/async_event.hpp>
#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/readiness.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/listener.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/make.hpp>
#include <pulsar/core/timeout.hpp>

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

enum class accept_failure {
  none_waits,  // nobody waits any more
  skipped,     // that connection is lost, the next one may do
  exhausted,   // neither descriptors nor memory: better later
  fatal,
};

inline accept_failure classify_accept_failure(int code) noexcept {
  switch (code) {
    case EAGAIN: return accept_failure::none_waits;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM: return accept_failure::exhausted;
    // Errors of the network that belong to the connection, and firewall rules: accept(2).
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT: return accept_failure::skipped;
    default: return accept_failure::fatal;
  }
}

// A listener and the wait for its connections, which end together. One loop.
class accepting_socket : public counted_here {
 public:
  explicit accepting_socket(listener from) noexcept : at_(std::move(from)) {}
  ~accepting_socket() override { close(); }

  const listener& at() const noexcept { return at_; }
  bool is_closed() const noexcept { return at_.fd() < 0; }

  void watch(event_loop& loop) { descriptor_.emplace(loop.context(), at_.fd()); }
  /// Until `close`, behind which no wait may begin.
  watched_descriptor::readiness readable() noexcept { return descriptor_->readable(); }

  /// Whoever waits was cancelled. The loop lets go of the number before another file can have it.
  void close() noexcept {
    if (descriptor_) static_cast<void>(descriptor_->release());
    descriptor_.reset();
    at_.close();
  }

 private:
  listener at_;
  std::optional<watched_descriptor> descriptor_;
};

// Says at most once a second that connections have to wait.
class exhaustion_log {
 public:
  void say(event_loop& loop, const listener& at, const std::error_code& why) noexcept {
    ++count_;
    if (said_ && loop.time() - last_ < std::chrono::seconds(1)) return;
    try {
      log::error("{}: cannot accept connections{}: {}; trying again ({} times so far)",
                 at.local().to_string(), remedy_for(why.value()), why.message(), count_);
      said_ = true;
      last_ = loop.time();
    } catch (...) {  // it may be memory that is exhausted
    }
  }

 private:
  bool said_ = false;
  event_loop::time_point last_{};
  std::size_t count_ = 0;
};

// A connection wakes every process on the socket, but the one that has the processor would take it
// and the next ones too. So the processor is offered to the others behind each connection; up to 64
// times in a row and 50 times a second, for strangers are offered it as well.
class courtesy {
 public:
  void offer(event_loop::time_point now) noexcept {
    spent_ = std::max(spent_, now);
    if (spent_ - now > 64 * interval) return;
    spent_ += interval;
    ::sched_yield();
  }

 private:
  static constexpr auto interval = std::chrono::milliseconds(20);
  event_loop::time_point spent_{};
};

template <class = void>
future<> accept_connections(event_loop& loop,
                            counted_pointer<accepting_socket> from,
                            std::function<void(unique_fd)> take,
                            async_event* may_accept = nullptr) {
  // With this, not with the parameter, which is there as long as the future is kept.
  struct scope {
    explicit scope(accepting_socket& s) noexcept : socket(s) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() { socket.close(); }
    accepting_socket& socket;
  };
  const scope closing(*from);
  const listener& at = from->at();
  from->watch(loop);
  exhaustion_log exhaustion;
  courtesy courtesy;
  for (;;) {
    std::error_code failure;
    try {
      if (may_accept != nullptr && !may_accept->is_set()) co_await may_accept->wait(loop);
      if (from->is_closed()) throw error(errc::cancelled);
      const bool ready = co_await from->readable();
      if (!ready || from->is_closed()) throw error(errc::cancelled);
      if (may_accept != nullptr && !may_accept->is_set()) continue;
      if (unique_fd connection = at.accept(failure)) {
        take(std::move(connection));
        if (at.adopted()) courtesy.offer(loop.time());
        continue;
      }
    } catch (const std::bad_alloc&) {
      failure = std::make_error_code(std::errc::not_enough_memory);
    }
    switch (classify_accept_failure(failure.value())) {
      case accept_failure::none_waits:
      case accept_failure::skipped: break;
      case accept_failure::exhausted:
        exhaustion.say(loop, at, failure);
        try {
          co_await sleep(std::chrono::milliseconds(100), loop);
        } catch (const std::bad_alloc&) {  // no memory to wait with: on with the next one
        }
        break;
      case accept_failure::fatal:
        throw error(failure, "cannot accept connections on " + at.local().to_string());
    }
  }
}

}  // namespace detail

/// Hands every connection of `from` to `take` until it is cancelled; then the listener is closed.
/// `take` may throw `std::bad_alloc` and nothing else. A connection that fails while it is accepted
/// is passed over. When descriptors or memory run out it logs that, at most once a second, waits a
/// tenth of a second and goes on.
///
/// Between connections the loop has its turn, and if the listener was adopted, so have the other
/// processes that accept from it: connections spread evenly over them. While `may_accept` is not
/// set, those who connect wait in the backlog.
///
/// With g++ 12 name a `take` that captures more than references and numbers: see make.hpp. Throws
/// `errc::cancelled`, and the system's error for a descriptor that cannot accept.
template <class Take>
  requires std::is_invocable_v<Take&, unique_fd>
future<> accept_each(event_loop& loop,
                     listener from,
                     Take&& take,
                     async_event* may_accept = nullptr) {
  detail::refuse_temporaries<Take>();
  const detail::counted_pointer<detail::accepting_socket> socket(
      new detail::accepting_socket(std::move(from)));
  return detail::accept_connections(loop, socket, std::forward<Take>(take), may_accept);
}

}  // namespace pulsar
