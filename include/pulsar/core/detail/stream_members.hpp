// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The reads of a stream, and its members.

#include <pulsar/core/detail/socket_stream.hpp>
#include <pulsar/core/stream.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pulsar {

namespace detail {

inline bool stream_reader::fail_at_end(const stream_core& from) {
  std::exception_ptr why = from.read_failure();
  if (why == nullptr) return false;
  fail(std::move(why));
  return true;
}

struct some_reader final : shared_state<std::size_t, stream_reader> {
  some_reader(event_loop& l, std::span<std::byte> i)
      : shared_state<std::size_t, stream_reader>(l), into(i) {}

  bool finish(stream_core& from) override {
    const auto there = from.buffered();
    const std::size_t n = std::min(into.size(), there.size());
    if (n == 0 && !into.empty()) {
      if (!from.ended()) return false;
      if (fail_at_end(from)) return true;
    } else if (n != 0) {
      std::memcpy(into.data(), there.data(), n);
      from.skip(n);
    }
    succeed(n);
    return true;
  }

  const std::span<std::byte> into;
};

struct fill_reader final : shared_state<bool, stream_reader> {
  using shared_state<bool, stream_reader>::shared_state;

  bool finish(stream_core& from) override {
    if (from.sees_more()) {
      succeed(true);
    } else if (from.ended()) {
      if (!fail_at_end(from)) succeed(false);
    } else if (from.buffered().size() >= from.options.read_limit) {
      return fail_with(errc::too_large,
                       std::to_string(from.buffered().size()) +
                           " bytes were read and not consumed: consume them, or raise "
                           "stream_options::read_limit");
    } else {
      return false;
    }
    return true;
  }
};

struct text_reader : shared_state<std::string, stream_reader> {
  using shared_state<std::string, stream_reader>::shared_state;

 protected:
  bool give(stream_core& from, std::size_t n) {
    succeed(from.text().substr(0, n));
    from.skip(n);
    return true;
  }
};

struct any_reader final : text_reader {
  any_reader(event_loop& l, std::size_t m) : text_reader(l), most(m) {}

  bool finish(stream_core& from) override {
    const std::size_t n = std::min(most, from.buffered().size());
    if (n == 0 && most != 0) {
      if (!from.ended()) return false;
      if (fail_at_end(from)) return true;
    }
    return give(from, n);
  }

  const std::size_t most;
};

struct exact_reader final : text_reader {
  exact_reader(event_loop& l, std::size_t n) : text_reader(l), wanted(n) {}

  bool finish(stream_core& from) override {
    const std::size_t there = from.buffered().size();
    if (there >= wanted) return give(from, wanted);
    if (!from.ended()) return false;
    return fail_at_end(from) ||
           fail_with(errc::truncated, "the stream ended after " + std::to_string(there) + " of " +
                                          std::to_string(wanted) + " bytes");
  }

  const std::size_t wanted;
};

struct delimited_reader final : text_reader {
  delimited_reader(event_loop& l, std::string_view d, bool line)
      : text_reader(l), delimiter(d), is_line(line) {}

  bool finish(stream_core& from) override {
    const std::string_view text = from.text();
    const std::size_t at = text.find(delimiter, looked_at);
    const bool found = at != text.npos;
    const std::size_t size = found ? at + delimiter.size() : text.size();
    if (size > from.options.read_limit) return refuse(from.options.read_limit);
    if (found) return give(from, size);
    looked_at = text.size() - std::min(text.size(), delimiter.size() - 1);
    if (!from.ended()) return false;
    if (fail_at_end(from)) return true;
    if (is_line) return give(from, size);
    return fail_with(errc::truncated, "the stream ended after " + std::to_string(size) +
                                          " bytes, before the delimiter");
  }

  bool refuse(std::size_t limit) {
    return fail_with(errc::too_large,
                     std::string(is_line ? "a line" : "what goes before the delimiter") +
                         " is longer than " + std::to_string(limit) +
                         " bytes: raise stream_options::read_limit");
  }

  const std::string delimiter;
  const bool is_line;
  std::size_t looked_at = 0;  // where no delimiter begins
};

struct rest_reader final : text_reader {
  rest_reader(event_loop& l, std::size_t most) : text_reader(l), limit(most) {}

  bool finish(stream_core& from) override {
    const std::size_t there = from.buffered().size();
    if (there > limit) {
      return fail_with(errc::too_large, "more than " + std::to_string(limit) +
                                            " bytes came before the end of the stream");
    }
    if (!from.ended()) return false;
    return fail_at_end(from) || give(from, there);
  }

  const std::size_t limit;
};

/// A `close` under way: if it ends before its time the stream is lost.
class closing_scope {
 public:
  explicit closing_scope(stream_core& core) noexcept : core_(core) {}
  closing_scope(const closing_scope&) = delete;
  closing_scope& operator=(const closing_scope&) = delete;
  ~closing_scope() {
    if (!done_) core_.abort();
  }
  void done() noexcept {
    done_ = true;
    core_.close();
  }

 private:
  stream_core& core_;
  bool done_ = false;
};

/// Throws `std::errc::invalid_argument` if it is none.
inline unique_fd check_stream_socket(unique_fd fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
    throw error(
        std::make_error_code(std::errc::invalid_argument),
        "descriptor " + std::to_string(fd.get()) + " is no stream socket: a stream needs one");
  }
  return fd;
}

inline void set_socket_options(int fd, const stream_options& options) noexcept {
  const int no_delay = options.no_delay ? 1 : 0;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, sizeof no_delay);
  const int on = 1;
  if (options.keep_alive) ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

}  // namespace detail

// -- the members of stream -----------------------------------------------------

inline stream::stream() noexcept = default;
inline stream::stream(stream&&) noexcept = default;

inline stream& stream::operator=(stream&& other) noexcept {
  if (this != &other) {
    if (core_) core_->let_go();
    core_ = std::move(other.core_);
  }
  return *this;
}

inline stream::~stream() {
  if (core_) core_->let_go();
}

inline stream::stream(std::unique_ptr<raw_stream> raw, stream_options options, event_loop& loop)
    : core_(new detail::stream_core(loop, std::move(raw), options)) {}

inline stream::stream(unique_fd socket, stream_options options, event_loop& loop)
    : stream(detail::new_descriptor_stream(loop,
                                           detail::check_stream_socket(std::move(socket)),
                                           detail::descriptor_kind::socket),
             options,
             loop) {
  detail::set_socket_options(native_handle(), options);
}

inline detail::stream_core& stream::core() const noexcept {
  PULSAR_ASSERT(core_, "this stream was moved from, or never made");
  return *core_;
}

template <class Reader, class... Args>
auto stream::start(const char* what, Args&&... args) {
  auto* const reader = new Reader(core().open_loop(what), std::forward<Args>(args)...);
  reader->handed_out = true;
  ++reader->count;
  core().begin(*reader);
  return reader;
}

inline future<std::size_t> stream::read_some(std::span<std::byte> into) {
  return detail::future_access::make<std::size_t>(
      start<detail::some_reader>("stream::read_some", into));
}

inline future<std::string> stream::read(std::size_t most) {
  return detail::future_access::make<std::string>(start<detail::any_reader>("stream::read", most));
}

inline future<std::string> stream::read_exactly(std::size_t n) {
  return detail::future_access::make<std::string>(
      start<detail::exact_reader>("stream::read_exactly", n));
}

inline future<std::string> stream::read_until(std::string_view delimiter) {
  if (delimiter.empty()) {
    throw error(std::make_error_code(std::errc::invalid_argument),
                "stream::read_until was given an empty delimiter");
  }
  return detail::future_access::make<std::string>(
      start<detail::delimited_reader>("stream::read_until", delimiter, false));
}

inline future<std::string> stream::read_line() {
  return detail::future_access::make<std::string>(
      start<detail::delimited_reader>("stream::read_line", "\n", true));
}

inline future<std::string> stream::read_to_end(std::size_t limit) {
  return detail::future_access::make<std::string>(
      start<detail::rest_reader>("stream::read_to_end", limit));
}

inline future<bool> stream::fill() {
  return detail::future_access::make<bool>(start<detail::fill_reader>("stream::fill"));
}

inline std::span<const std::byte> stream::buffered() const noexcept { return core().buffered(); }
inline std::string_view stream::buffered_text() const noexcept { return core().text(); }
inline void stream::consume(std::size_t n) noexcept { core().consume(n); }
inline bool stream::at_end() const noexcept { return core().at_end(); }

inline void stream::write(std::span<const std::byte> from) { core().write(from); }
inline future<> stream::drain() { return core().drain(); }
inline void stream::write_eof() { core().end_writing(); }
inline std::size_t stream::unsent() const noexcept { return core().unsent(); }

inline future<> stream::close() {
  event_loop& loop = core().open_loop("stream::close");
  return finish(loop, core_);
}

template <class>
future<> stream::finish(event_loop& loop, detail::counted_pointer<detail::stream_core> core) {
  detail::closing_scope scope(*core);
  core->stop();
  while (!core->is_flushed()) co_await core->flushed(loop);
  const std::exception_ptr failure = core->write_failure();
  scope.done();
  if (failure != nullptr) std::rethrow_exception(failure);
}

inline void stream::abort() noexcept { core().abort(); }
inline bool stream::is_closing() const noexcept { return core().is_closing(); }

inline address stream::local_address() const { return core().address_of(&::getsockname); }
inline address stream::peer_address() const { return core().address_of(&::getpeername); }
inline std::string stream::peer_name() const { return core().peer_name(); }
inline int stream::native_handle() const noexcept { return core().raw().native_handle(); }
inline raw_stream& stream::raw() const noexcept { return core().raw(); }
inline std::pair<std::unique_ptr<raw_stream>, std::string> stream::release() {
  auto released = core().release();
  core_ = nullptr;
  return released;
}

inline std::uint64_t stream::bytes_read() const noexcept { return core().bytes_read; }
inline std::uint64_t stream::bytes_written() const noexcept { return core().bytes_written; }
inline const stream_options& stream::options() const noexcept { return core().options; }

}  // namespace pulsar
