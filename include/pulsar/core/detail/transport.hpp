// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What stands between a stream and a protocol: a coroutine that reads the one and tells the other.

#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/descriptor_table.hpp>
#include <pulsar/core/detail/loop_ref.hpp>
#include <pulsar/core/detail/waiters.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/protocol.hpp>
#include <pulsar/core/stream.hpp>

#include <poll.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <typeinfo>
#include <utility>

namespace pulsar::detail {

/// Of the failure of a stream, which throws nothing but system errors and std::bad_alloc.
inline std::error_code code_of_failure(const std::exception_ptr& failure) noexcept {
  try {
    if (failure != nullptr) std::rethrow_exception(failure);
  } catch (const std::system_error& e) {
    return e.code();
  } catch (...) {
    return std::make_error_code(std::errc::connection_aborted);
  }
  return {};
}

/// Of a connection, or of one end of a pipe.
enum class transport_kind : std::uint8_t { both_ways, only_reads, only_writes };

/// Belongs to the thread of its loop. Counted by its transports and by the coroutine that runs it.
class transport_core : public counted_here, write_observer {
 public:
  transport_core(event_loop& loop,
                 stream under,
                 std::shared_ptr<protocol> told,
                 transport_kind kind)
      : stream_(std::move(under)),
        loop_(loop),
        protocol_(std::move(told)),
        high_(stream_.options().high_water),
        low_(stream_.options().low_water),
        kind_(kind),
        ended_(kind == transport_kind::only_writes) {
    stream_access::core(stream_).observer = this;
  }

  // -- what a transport does
  // -----------------------------------------------------------------------

  void write(std::span<const std::byte> data) {
    if (closing_) return;
    try {
      stream_.write(data);
    } catch (const std::system_error& e) {
      if (e.code() == errc::too_large || e.code() == errc::closed) throw;
      return lose(e.code());
    }
    pause_if_high();
  }

  void write_eof() {
    if (closing_) return;
    writes_no_more_ = true;
    unwatch();
    stream_.write_eof();
  }

  void close() noexcept {
    if (std::exchange(closing_, true)) return;
    unwatch();
    try {
      flushed_.emplace(stream_.close());  // ends the read that waits
    } catch (...) {
      stream_.abort();
    }
    wake();
  }

  void abort() noexcept {
    closing_ = true;
    unwatch();
    stream_.abort();
    wake();
  }

  void pause_reading() noexcept { paused_ = true; }
  void resume_reading() noexcept {
    if (std::exchange(paused_, false)) wake();
  }

  void limit_writing(std::size_t high, std::size_t low) {
    high_ = high;
    low_ = low;
    pause_if_high();
    on_write();
  }

  void set_protocol(std::shared_ptr<protocol> told) noexcept {
    if (protocol_) protocol_ = std::move(told);
  }
  const std::shared_ptr<protocol>& told() const noexcept { return protocol_; }

  /// From `connection_made` to `connection_lost`.
  template <class = void>
  static future<> run(event_loop& loop, counted_pointer<transport_core> core);

  const stream& under() const noexcept { return stream_; }
  bool is_closing() const noexcept { return closing_; }
  bool is_reading() const noexcept { return !paused_ && !closing_ && !ended_; }
  std::size_t high() const noexcept { return high_; }
  std::size_t low() const noexcept { return low_; }

 protected:
  ~transport_core() override { stream_access::core(stream_).observer = nullptr; }
  /// Calls `protocol::connection_made`.
  virtual void made(protocol& told) = 0;

 private:
  // Calls the protocol. What it throws ends the connection.
  template <class F>
  void tell(F&& f) noexcept {
    const std::shared_ptr<protocol> kept = protocol_;
    if (!kept) return;
    const protocol& told = *kept;
    const step_watch::protocol_call step(typeid(told));
    try {
      f(*kept);
    } catch (...) {
      if (event_loop* const loop = loop_.get()) report_callback_failure(*loop);
      lose(code_of_failure(std::current_exception()));
    }
  }

  void lose(std::error_code why) noexcept {
    if (!lost_) lost_ = why;
    abort();
  }

  void wake() noexcept {
    while (!changed_.empty()) changed_.wake_first();
  }

  void deliver() noexcept {
    const auto data = stream_.buffered();
    const std::size_t n = data.size();
    tell([&](protocol& p) { p.data_received(data); });
    stream_.consume(n);
  }

  void on_end() noexcept {
    ended_ = true;
    bool goes_on = false;
    tell([&](protocol& p) { goes_on = p.eof_received(); });
    if (!goes_on || kind_ == transport_kind::only_reads) close();
  }

  // Who only writes, into a pipe, is told at once that nobody reads any more.
  void watch() noexcept {
    struct stat what {};
    const int fd = stream_.native_handle();
    if (closing_ || writes_no_more_) return;
    if (::fstat(fd, &what) != 0 || !(S_ISFIFO(what.st_mode) || S_ISSOCK(what.st_mode))) return;
    try {
      auto& table = loop_access::local<descriptor_table>(*loop_.get());
      table.set(fd, direction::in, [this] { look_at_reader(); });
      watched_ = fd;
    } catch (...) {  // then a write will tell
    }
  }

  // Before the descriptor is closed.
  void unwatch() noexcept {
    const int fd = std::exchange(watched_, -1);
    event_loop* const loop = loop_.get();
    if (fd < 0 || loop == nullptr) return;
    if (auto* const table = loop_access::find_local<descriptor_table>(*loop)) {
      table->remove(fd, direction::in);
    }
  }

  void look_at_reader() noexcept {
    pollfd now{watched_, 0, 0};
    static_cast<void>(::poll(&now, 1, 0));
    if ((now.revents & (POLLERR | POLLHUP)) == 0) return unwatch();  // a socket that is sent to
    const bool loses = stream_.unsent() > 0;
    lose(loses ? std::make_error_code(std::errc::broken_pipe) : std::error_code());
  }

  void pause_if_high() noexcept {
    if (write_paused_ || closing_ || stream_.unsent() <= high_) return;
    write_paused_ = true;
    tell([](protocol& p) { p.pause_writing(); });
  }

  // In the midst of a write: the protocol is told later.
  void on_write() noexcept override {
    const bool failed = stream_access::core(stream_).write_failure() != nullptr;
    if (!failed && (!write_paused_ || stream_.unsent() > low_)) return;
    event_loop* const loop = loop_.get();
    if (loop == nullptr || looks_later_) return;
    try {
      loop->call_soon([self = share(*this)] { self->look_at_writes(); });
      looks_later_ = true;
    } catch (...) {  // the loop is about to end
    }
  }

  void look_at_writes() noexcept {
    looks_later_ = false;
    if (const auto failure = stream_access::core(stream_).write_failure()) {
      if (!closing_) lose(code_of_failure(failure));
    } else if (write_paused_ && stream_.unsent() <= low_) {
      write_paused_ = false;
      tell([](protocol& p) { p.resume_writing(); });
    }
  }

  // What it owns may own a transport, and that this.
  void end() noexcept {
    stream_access::core(stream_).observer = nullptr;
    closing_ = ended_ = true;
    unwatch();
    stream_.abort();
    flushed_.reset();
    const auto gone = std::exchange(protocol_, nullptr);
  }

  stream stream_;
  const loop_ref loop_;
  std::shared_ptr<protocol> protocol_;
  std::optional<future<>> flushed_;  // from `close` on
  // What the coroutine waits for if it does not read.
  waiting_line<> changed_{"a protocol that has paused reading"};
  std::error_code lost_;  // why, if this side found out
  std::size_t high_;
  std::size_t low_;
  int watched_ = -1;  // the descriptor, while `watch` is on
  const transport_kind kind_;
  bool ended_;  // nothing more to read
  bool paused_ = false;
  bool write_paused_ = false;
  bool writes_no_more_ = false;
  bool closing_ = false;
  bool looks_later_ = false;
};

template <class>
future<> transport_core::run(event_loop& loop, counted_pointer<transport_core> core) {
  struct scope {
    explicit scope(transport_core& c) noexcept : of(c) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() { of.end(); }
    transport_core& of;
  };
  const scope ending(*core);
  std::error_code why;
  try {
    core->tell([&core](protocol& p) { core->made(p); });
    if (core->kind_ == transport_kind::only_writes) core->watch();
    while (!core->closing_) {
      if (!core->is_reading()) {
        co_await core->changed_.wait(loop);
        continue;
      }
      if (core->stream_.buffered().empty()) {
        const bool more = co_await core->stream_.fill();
        if (!more) core->on_end();
      }
      if (core->is_reading()) core->deliver();
    }
  } catch (...) {
    if (!core->closing_) why = code_of_failure(std::current_exception());
  }
  if (core->flushed_) {
    try {
      co_await std::move(*core->flushed_);
    } catch (...) {
      const std::error_code failure = code_of_failure(std::current_exception());
      if (failure != errc::closed) why = failure;  // else it was aborted
    }
  }
  if (core->lost_) why = core->lost_;
  core->abort();
  core->tell([why](protocol& p) { p.connection_lost(why); });
}

}  // namespace pulsar::detail
