// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What one connection does. It is a local of the coroutine that serves it; whatever need not wait
// is a plain function, so that a request that comes in one piece and is answered at once costs one
// resumption.

#include <pulsar/apps/http/connection.hpp>
#include <pulsar/apps/http/parser.hpp>
#include <pulsar/apps/http/request.hpp>
#include <pulsar/apps/http/response.hpp>
#include <pulsar/core/buffer.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/core/operation.hpp>
#include <pulsar/core/timer_wheel.hpp>

#include <asio/basic_stream_socket.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/io_context.hpp>
#include <fmt/core.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <exception>
#include <span>
#include <system_error>
#include <tuple>

namespace pulsar::http {

namespace detail {

class connection {
 public:
  connection(connection_group& group, unique_fd socket)
      : group_(group),
        // The family says nothing about a socket that is connected.
        socket_(group.loop_.context(), asio::generic::stream_protocol(AF_UNSPEC, 0), socket.get()),
        parser_(group.options_.limits) {
    static_cast<void>(socket.release());
    socket_.non_blocking(true);
    group_.enter(*this);
  }
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection() { group_.leave(*this); }

  static future<> serve(event_loop& loop,
                        std::shared_ptr<connection_group> group,
                        unique_fd socket);

  void drain() noexcept {
    if (waits_for_ == waiting::first || waits_for_ == waiting::request) {
      wait_for(waiting::first, at_once_or(times().drain));
    } else if (waits_for_ == waiting::end) {
      wait_for(waiting::end, at_once_or(times().drain));
    }
  }

  void abort() noexcept {
    broken_ = true;
    std::error_code ignored;
    socket_.close(ignored);
    pending_.cancel();
  }

 private:
  friend class http::connection_group;

  using stream =
      asio::basic_stream_socket<asio::generic::stream_protocol, asio::io_context::executor_type>;

  // What has to happen next.
  enum class step : std::uint8_t {
    read,    // all there is has been looked at
    write,   // enough for one write
    answer,  // the handler is not done
    close,   // nothing comes behind what is to be written
  };

  // What the client is to do before the deadline.
  enum class waiting : std::uint8_t { nothing, first, request, head, body, write, end };

  struct deadline final : timer_node {
    explicit deadline(connection& c) noexcept : timer_node(&fire), owner(c) {}
    static void fire(timer_node* node, bool drop) {
      if (!drop) static_cast<deadline*>(node)->owner.expire();
    }
    connection& owner;
  };

  static constexpr std::size_t first_read = 2 * 1024;    // an ordinary request, or many small ones
  static constexpr std::size_t most_read = 64 * 1024;    // before what is there is answered
  static constexpr std::size_t most_output = 64 * 1024;  // before it is written
  static constexpr std::size_t most_kept = 16 * 1024;    // of memory while idle
  static constexpr std::size_t discarded_at_once = 16 * 1024;

  const timeouts& times() const noexcept { return group_.options_.timeouts; }

  // -- deadlines -------------------------------------------------------------

  void wait_for(waiting what, std::chrono::milliseconds limit) noexcept {
    waits_for_ = what;
    expired_ = false;
    if (limit > limit.zero()) {
      pulsar::detail::loop_access::arm_after(group_.loop_, timer_, limit);
    } else {
      timer_.cancel();
    }
  }

  static std::chrono::milliseconds at_once_or(std::chrono::milliseconds limit) noexcept {
    return std::max(limit, std::chrono::milliseconds(1));
  }

  void wait_for_more() noexcept;
  void wait_for_request() noexcept;

  void stop_waiting() noexcept {
    waits_for_ = waiting::nothing;
    timer_.cancel();
  }

  void expire() noexcept {
    if (waits_for_ == waiting::write) {
      const int before = std::exchange(unread_, unread());
      if (unread_ < before) return wait_for(waiting::write, times().write);
    }
    if (waits_for_ == waiting::request && ++quiet_quarters_ < 4) {
      return wait_for(waiting::request, quarter_of_idle_time());
    }
    expired_ = true;
    std::error_code ignored;
    socket_.cancel(ignored);  // completes the read or the write under way
  }

  std::chrono::milliseconds quarter_of_idle_time() const noexcept {
    return (times().keep_alive + std::chrono::milliseconds(3)) / 4;
  }

  // Bytes in the socket that the client has not taken. The socket asks for more only when a good
  // part of its megabytes is gone, which may take a slow client minutes.
  int unread() noexcept {
    int size = 0;
    ::ioctl(socket_.native_handle(), SIOCOUTQ, &size);
    return size;
  }

  // -- input -----------------------------------------------------------------

  std::span<std::byte> room();
  void take_input(const std::error_code& failure, std::span<std::byte> room, std::size_t size);
  void end_input(const std::error_code& failure);

  // -- answers ---------------------------------------------------------------

  step advance();
  bool is_enough() const noexcept;
  bool respond();
  response ask();
  response take_pending();
  void put(response& answer);
  void refuse(response answer);
  response failure_of(const std::exception_ptr& why);
  response failure(std::string_view why);

  // -- output ----------------------------------------------------------------

  output& out();
  void give_back_output() noexcept;
  std::size_t send(const output& out) noexcept;
  bool flush() noexcept;
  static future<> write_rest(event_loop& loop, connection& self);
  static future<> linger(event_loop& loop, connection& self);

  connection_group& group_;
  stream socket_;
  parser parser_;
  http::request request_;
  buffer input_;
  response large_;               // what `out_` may refer to
  std::unique_ptr<output> out_;  // what is not sent yet; null if there is nothing
  future<response> pending_;     // what the handler is at
  deadline timer_{*this};
  int unread_ = 0;          // when the write began to wait
  int quiet_quarters_ = 0;  // of the keep-alive time
  waiting waits_for_ = waiting::nothing;
  bool expired_ = false;
  bool broken_ = false;     // nothing can be written any more
  bool served_ = false;     // a request has come
  bool continued_ = false;  // "100 Continue" was sent
  bool closing_ = false;    // the last response is written
  bool lingers_ = false;    // and the client may still be sending
  bool hurries_ = false;    // no time for that
  connection* previous_ = nullptr;
  connection* next_ = nullptr;
};

inline future<> connection::serve(event_loop& loop,
                                  std::shared_ptr<connection_group> group,
                                  unique_fd socket) {
  try {
    connection self(*group, std::move(socket));
    for (;;) {
      const step next = self.advance();
      if (!self.flush()) co_await write_rest(loop, self);
      if (self.broken_) co_return;
      switch (next) {
        case step::write: break;
        case step::read: {
          self.wait_for_more();
          const auto room = self.room();
          const auto read = co_await self.socket_.async_read_some(
              asio::buffer(room.data(), room.size()), use_result);
          self.take_input(std::get<0>(read), room, std::get<1>(read));
          break;
        }
        case step::answer: {
          response answer;
          try {
            answer = co_await self.pending_;
          } catch (...) {
            if (self.broken_) co_return;
            answer = self.failure_of(std::current_exception());
          }
          self.pending_ = future<response>();
          self.put(answer);
          break;
        }
        case step::close:
          if (self.lingers_) co_await linger(loop, self);
          co_return;
      }
    }
  } catch (...) {
    group->log_loss(std::current_exception());
  }
}

// Sets the deadline of the next read.
inline void connection::wait_for_more() noexcept {
  if (!parser_.started()) {
    if (input_.capacity() > most_kept) input_.release();
    if (group_.draining_) {
      wait_for(waiting::first, at_once_or(times().drain));
    } else if (served_) {
      wait_for_request();
    } else {
      wait_for(waiting::first, times().head);
    }
  } else if (parser_.awaits_body()) {
    wait_for(waiting::body, times().body);
  } else if (waits_for_ != waiting::head || expired_) {
    wait_for(waiting::head, times().head);
  }
}

// A timer that is armed anew for every request would be a part of its cost that can be measured. So
// it goes on running, and what counts are the quarters of the time in which nothing came.
inline void connection::wait_for_request() noexcept {
  if (waits_for_ == waiting::request && !expired_) {
    quiet_quarters_ = -1;  // the one that runs does not count
    return;
  }
  quiet_quarters_ = 0;
  wait_for(waiting::request, quarter_of_idle_time());
}

inline std::span<std::byte> connection::room() {
  if (!parser_.awaits_body()) return input_.prepare(input_.empty() ? first_read : first_read / 2);
  input_.truncate(parser_.trim());
  return input_.prepare(static_cast<std::size_t>(
      std::clamp<std::uint64_t>(parser_.missing(), first_read / 2, most_read)));
}

// What is left unread makes another round through the reactor, so a read that filled its room goes
// on here: the requests that came together are answered together.
inline void connection::take_input(const std::error_code& failure,
                                   std::span<std::byte> room,
                                   std::size_t size) {
  if (failure) [[unlikely]]
    return end_input(failure);
  input_.commit(size);
  while (size == room.size() && input_.size() < most_read) {
    room = input_.prepare(input_.size());
    std::error_code later;  // comes again with the next read
    size = socket_.read_some(asio::buffer(room.data(), room.size()), later);
    input_.commit(size);
  }
}

inline void connection::end_input(const std::error_code& failure) {
  if (expired_ && (waits_for_ == waiting::head || waits_for_ == waiting::body)) {
    refuse(response(status::request_timeout, "408 Request Timeout\n").close());
  } else if (failure == asio::error::eof && parser_.started()) {
    refuse(refusal(parser_.finish()));
    lingers_ = false;
  } else {
    broken_ = true;
  }
}

inline connection::step connection::advance() {
  while (!closing_) {
    if (is_enough()) return step::write;
    if (input_.empty()) return step::read;
    switch (parser_.parse(input_, request_)) {
      case progress::complete:
        if (request_.method() == method::connect) [[unlikely]] {
          refuse(response(status::not_implemented, "501 Not Implemented: no tunnels here\n"));
        } else if (!respond()) {
          return step::answer;
        }
        break;
      case progress::incomplete:
        if (parser_.awaits_body() && request_.expects_continue() && !continued_) {
          continued_ = true;
          out().append(continue_line);
        }
        return step::read;
      case progress::failed: refuse(refusal(parser_.error())); break;
    }
  }
  return step::close;
}

// What bounds the memory of responses.
inline bool connection::is_enough() const noexcept {
  return out_ && (!out_->tail().empty() || out_->size() >= most_output);
}

// False if the answer has to be waited for.
inline bool connection::respond() {
  served_ = true;
  continued_ = false;
  if (waits_for_ != waiting::request) waits_for_ = waiting::nothing;
  ++group_.counters_.requests;
  response answer = ask();
  if (pending_.valid()) [[unlikely]] {
    if (!pending_.done()) {
      stop_waiting();
      return false;
    }
    answer = take_pending();
  }
  put(answer);
  return true;
}

inline response connection::ask() {
  try {
    return group_.handler_(request_, pending_);
  } catch (...) {
    return failure_of(std::current_exception());
  }
}

// What a handler came to that is done.
inline response connection::take_pending() {
  future<response> done = std::move(pending_);
  try {
    return done.result();
  } catch (...) {
    return failure_of(std::current_exception());
  }
}

inline void connection::put(response& answer) {
  output& to = out();
  const bool keep = request_.keep_alive() && !group_.draining_;
  if (answer.code() < 200) [[unlikely]] {
    answer = failure(fmt::format("the handler answered {}, which is no final status: 200 to 599 are",
                                 answer.code()));
  }
  const delivery how{request_.method(), request_.version(), keep, group_.date(),
                     group_.options_.server};
  serialize(answer, how, to);
  input_.consume(parser_.consumed());
  if (!keep || !answer.keep_alive()) {
    closing_ = true;
    lingers_ = !hurries_ && (request_.keep_alive() || !input_.empty());
  }
  // The text that `to` refers to stays where it is: it is too long to lie within its string.
  if (!to.tail().empty()) large_ = std::move(answer);
}

// The last answer, to what is no request.
inline void connection::refuse(response answer) {
  ++group_.counters_.refused;
  serialize(answer,
            {.method = request_.method(),
             .keep_alive = false,
             .date = group_.date(),
             .server = group_.options_.server},
            out());
  closing_ = lingers_ = true;
}

inline response connection::failure_of(const std::exception_ptr& why) {
  response answer = failure(pulsar::detail::describe(why));
  // It may be this connection that was cancelled: what follows must not wait.
  if (pulsar::detail::is_cancelled(why)) {
    hurries_ = true;
    answer.close();
  }
  return answer;
}

inline response connection::failure(std::string_view why) {
  ++group_.counters_.failed;
  group_.log_failure(request_, why);
  return response(status::internal_server_error, "500 Internal Server Error\n");
}

// Each connection writes to memory of its own, so that no client gets what another one asked for,
// whatever handlers do and wherever an exception comes from. It has that memory from the first
// answer to the end of the write, from the group where that has some to spare.
inline output& connection::out() {
  if (!out_) {
    out_ = group_.spare_ ? std::move(group_.spare_) : std::make_unique<output>();
  }
  return *out_;
}

inline void connection::give_back_output() noexcept {
  if (!out_->tail().empty()) large_ = response();
  out_->clear();
  group_.spare_ = std::move(out_);
}

// Writes what the socket takes now.
inline std::size_t connection::send(const output& out) noexcept {
  const auto head = out.head();
  const auto tail = out.tail();
  std::error_code failure;
  std::size_t sent = 0;
  if (tail.empty()) {
    sent = socket_.write_some(asio::buffer(head), failure);
  } else {
    const std::array<asio::const_buffer, 2> parts{asio::buffer(head), asio::buffer(tail)};
    sent = socket_.write_some(parts, failure);
  }
  if (failure && failure != asio::error::would_block) broken_ = true;
  return sent;
}

// True if nothing is left to write.
inline bool connection::flush() noexcept {
  if (!out_) return true;
  const std::size_t sent = broken_ ? 0 : send(*out_);
  if (!broken_ && sent != out_->size()) [[unlikely]] {
    out_->consume(sent);
    return false;
  }
  give_back_output();
  return true;
}

inline future<> connection::write_rest(event_loop&, connection& self) {
  output& out = *self.out_;
  while (!out.empty() && !self.broken_) {
    self.wait_for(waiting::write, self.times().write);
    self.unread_ = self.unread();
    const std::array<asio::const_buffer, 2> parts{asio::buffer(out.head()),
                                                  asio::buffer(out.tail())};
    const auto written = co_await self.socket_.async_write_some(parts, use_result);
    if (std::get<0>(written)) self.broken_ = true;
    out.consume(std::get<1>(written));
  }
  self.stop_waiting();
  self.give_back_output();
  self.large_ = response();
}

// The client has the last response when it closes; closing first, with bytes of the client unread,
// would take the response from it (RFC 9112 9.6).
inline future<> connection::linger(event_loop&, connection& self) {
  std::error_code failure;
  self.socket_.shutdown(asio::socket_base::shutdown_send, failure);
  self.wait_for(waiting::end,
                at_once_or(self.group_.draining_ ? self.times().drain : self.times().linger));
  // A client that never stops sending completes each read before the deadline could cancel it.
  while (!failure && !self.broken_ && !self.expired_) {
    self.input_.clear();
    const auto room = self.input_.prepare(discarded_at_once);
    const auto read =
        co_await self.socket_.async_read_some(asio::buffer(room.data(), room.size()), use_result);
    failure = std::get<0>(read);
  }
}

}  // namespace detail

inline void connection_group::enter(detail::connection& one) noexcept {
  one.next_ = first_;
  if (first_ != nullptr) first_->previous_ = &one;
  first_ = &one;
  ++size_;
  ++counters_.connections;
}

inline void connection_group::leave(detail::connection& one) noexcept {
  if (one.next_ != nullptr) one.next_->previous_ = one.previous_;
  (one.previous_ != nullptr ? one.previous_->next_ : first_) = one.next_;
  if (--size_ > 0) return;
  for (auto& each : std::exchange(waiting_, {})) each.set_value();
}

inline void connection_group::drain() noexcept {
  draining_ = true;
  for (auto* one = first_; one != nullptr; one = one->next_) one->drain();
}

inline void connection_group::abort() noexcept {
  draining_ = true;
  for (auto* one = first_; one != nullptr; one = one->next_) one->abort();
}

inline void connection_group::log_failure(const request& asked, std::string_view why) noexcept {
  if (!failures_.may_say(loop_.time())) return;
  try {
    // Targets may have 8 KiB.
    constexpr std::size_t most = 200;
    const std::string_view target = asked.target();
    log::error("{} {}{}: {}{}", asked.method_name(), target.substr(0, most),
               target.size() > most ? "..." : "", why, failures_.kept_back());
  } catch (...) {  // the request is answered all the same
  }
}

inline void connection_group::log_loss(const std::exception_ptr& why) noexcept {
  if (pulsar::detail::is_cancelled(why) || !failures_.may_say(loop_.time())) return;
  try {
    log::error("closed a connection that could not be served: {}{}", pulsar::detail::describe(why),
               failures_.kept_back());
  } catch (...) {  // there may be no memory for that either
  }
}

inline future<> connection_group::ended() {
  promise<> all(loop_);
  auto result = all.get_future();
  if (size_ == 0) {
    all.set_value();
  } else {
    waiting_.push_back(std::move(all));
  }
  return result;
}

inline future<> serve_connection(std::shared_ptr<connection_group> group, unique_fd socket) {
  event_loop& loop = group->loop();
  return detail::connection::serve(loop, std::move(group), std::move(socket));
}

}  // namespace pulsar::http
