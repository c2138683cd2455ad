// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The user's descriptors that a loop watches. They stand in an epoll instance of the table's own,
// under the loop's context: it is level-triggered, says at once what cannot be watched, and may
// hold what Asio holds under the same number.
//
// The kernel drops a file from it when its last descriptor is closed, and tells nobody; the number
// may come back as another file. So each new watch is told to the kernel anew, and every entry
// there carries a generation by which what is out of date is known.

#include <pulsar/core/descriptor.hpp>
#include <pulsar/core/detail/watched_descriptor.hpp>
#include <pulsar/core/event_loop.hpp>

#include <fcntl.h>
#include <sys/epoll.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <source_location>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar::detail {

/// What a descriptor is watched for.
enum class direction : std::uint8_t { in, out };

class descriptor_table;

/// Waits for a descriptor once; who stands behind others is asked after them.
class descriptor_waiter {
 public:
  descriptor_waiter() noexcept = default;
  descriptor_waiter(const descriptor_waiter&) = delete;
  descriptor_waiter& operator=(const descriptor_waiter&) = delete;

  /// It is ready, perhaps. True: it was, and this has left the table.
  virtual bool attempt() noexcept = 0;
  /// It will not be: the descriptor is gone, or the loop. This has left the table.
  virtual void give_up(std::error_code why) noexcept = 0;

  /// Leaves the table, if it is in it.
  inline void leave() noexcept;

 protected:
  ~descriptor_waiter() = default;

 private:
  friend class descriptor_table;

  descriptor_table* table_ = nullptr;
  int fd_ = -1;
  direction what_ = direction::in;
  descriptor_waiter* before_ = nullptr;
  descriptor_waiter* behind_ = nullptr;
};

/// What one loop watches. Belongs to its thread.
class descriptor_table final : public loop_extension {
 public:
  explicit descriptor_table(event_loop& loop) : loop_(loop), poller_(make_poller()) {}
  ~descriptor_table() override {
    poller_->end();
    for (watched*& each : watched_) {
      if (each != nullptr) renounce(*each, errc::cancelled);
      delete std::exchange(each, nullptr);
    }
  }

  /// Calls `f`, which comes from `where`, in every turn in which `fd` is ready; the one before is
  /// forgotten. Throws the system's error for what cannot be watched.
  void set(int fd, direction what, std::function<void()> f, std::source_location where = {}) {
    const counted_pointer<callback> made(new callback(std::move(f), where));
    side& s = arm(fd, what).sides[index(what)];
    poll_soon();
    const counted_pointer<callback> before = std::exchange(s.called, made);
    if (!before) entered();
  }

  /// False if there is none.
  bool remove(int fd, direction what) noexcept {
    watched* const w = find(fd);
    if (w == nullptr) return false;
    const counted_pointer<callback> gone = std::exchange(w->sides[index(what)].called, nullptr);
    if (!gone) return false;
    disarm(fd, *w);
    left();
    return true;
  }

  /// True if somebody waits there.
  bool has_waiter(int fd, direction what) const noexcept {
    const watched* const w = find(fd);
    return w != nullptr && w->sides[index(what)].first != nullptr;
  }

  /// Puts `waiter` behind those that wait. Throws as `set`.
  void wait(int fd, direction what, descriptor_waiter& waiter) {
    side& s = arm(fd, what).sides[index(what)];
    poll_soon();
    waiter.table_ = this;
    waiter.fd_ = fd;
    waiter.what_ = what;
    waiter.before_ = s.last;
    waiter.behind_ = nullptr;
    (s.last != nullptr ? s.last->behind_ : s.first) = &waiter;
    s.last = &waiter;
    entered();
  }

  /// The kernel keeps the descriptor: it may be closed next, and who waits again is dearer.
  void leave(descriptor_waiter& waiter) noexcept {
    side& s = find(waiter.fd_)->sides[index(waiter.what_)];
    (waiter.before_ != nullptr ? waiter.before_->behind_ : s.first) = waiter.behind_;
    (waiter.behind_ != nullptr ? waiter.behind_->before_ : s.last) = waiter.before_;
    waiter.table_ = nullptr;
    left();
  }

  /// Before the descriptor is closed: those who wait for it fail.
  void forget(int fd, std::error_code why) noexcept {
    watched* const w = find(fd);
    if (w == nullptr || w->armed == 0) return;
    tell_kernel(EPOLL_CTL_DEL, fd, 0, 0);
    renounce(*w, why);
  }

  /// False, now and then, if the loop should have its turn before another call that need not wait.
  bool may_go_on() noexcept { return ++at_once_ % most_at_once != 0; }

 private:
  static constexpr int most_events = 64;  // a turn
  static constexpr unsigned most_at_once = 64;

  struct callback : counted {
    callback(std::function<void()>&& f, std::source_location w)
        : function(std::move(f)), where(w) {}
    const std::function<void()> function;
    const std::source_location where;
  };

  struct side {
    bool wanted() const noexcept { return first != nullptr || called; }
    counted_pointer<callback> called;
    descriptor_waiter* first = nullptr;
    descriptor_waiter* last = nullptr;
  };

  // A number, which may have been that of several files.
  struct watched {
    std::uint32_t wanted() const noexcept {
      return (sides[0].wanted() ? bit(direction::in) : 0u) |
             (sides[1].wanted() ? bit(direction::out) : 0u);
    }
    side sides[2];
    std::uint32_t armed = 0;  // what the kernel was told last
    std::uint32_t generation = 0;
  };

  // The epoll instance. Asio's handler keeps it, and may be called when the table is gone.
  struct poller : counted {
    poller(descriptor_table& t, unique_fd fd) : table(&t), epoll(t.loop_.context()) {
      epoll.assign(fd.get());
      static_cast<void>(fd.release());
    }
    void wait() {
      if (waiting) return;
      epoll.async_wait(epoll.wait_read, ended_wait{share(*this)});
      waiting = true;
    }
    void end() noexcept {
      table = nullptr;
      std::error_code ignored;
      epoll.close(ignored);
    }
    descriptor_table* table;
    watched_descriptor epoll;
    bool waiting = false;
  };
  struct ended_wait {
    counted_pointer<poller> by;
    void operator()(std::error_code failure) const {
      by->waiting = false;
      if (by->table != nullptr) by->table->woken(failure);
    }
  };

  static std::size_t index(direction what) noexcept { return static_cast<std::size_t>(what); }
  static std::uint32_t bit(direction what) noexcept {
    return what == direction::in ? EPOLLIN : EPOLLOUT;
  }

  counted_pointer<poller> make_poller() {
    unique_fd fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!fd) throw_system_error(errno, "cannot watch descriptors");
    return counted_pointer<poller>(new poller(*this, above_standard(std::move(fd))));
  }

  watched* find(int fd) const noexcept {
    const auto at = static_cast<std::size_t>(fd);
    return fd >= 0 && at < watched_.size() ? watched_[at] : nullptr;
  }

  int tell_kernel(int operation, int fd, std::uint32_t events, std::uint32_t generation) noexcept {
    epoll_event event{};
    event.events = events;
    event.data.u64 = std::uint64_t{generation} << 32 | static_cast<std::uint32_t>(fd);
    return ::epoll_ctl(poller_->epoll.native_handle(), operation, fd, &event) == 0 ? 0 : errno;
  }

  [[noreturn]] static void refuse(int fd, int code) {
    std::string what = "cannot watch descriptor " + std::to_string(fd);
    if (code == EPERM) what += ", which is always ready, as files and directories are";
    throw_system_error(code, what);
  }

  // Has the kernel watch it for `what` as well.
  watched& arm(int fd, direction what) {
    if (fd < 0) refuse(fd, EBADF);
    const auto at = static_cast<std::size_t>(fd);
    if (at >= watched_.size()) {
      if (::fcntl(fd, F_GETFD) < 0) refuse(fd, errno);  // before there is room for any number
      watched_.resize(at + 1);
    }
    if (watched_[at] == nullptr) watched_[at] = new watched;
    watched& w = *watched_[at];
    if (w.armed != 0) {
      const std::uint32_t wanted = w.wanted() | bit(what);
      if (tell_kernel(EPOLL_CTL_MOD, fd, wanted, w.generation) == 0) {
        w.armed = wanted;
        return w;
      }
      // What others wait for there was closed.
      renounce(w, std::error_code(EBADF, std::system_category()));
    }
    const std::uint32_t generation = ++generations_;
    int code = tell_kernel(EPOLL_CTL_ADD, fd, bit(what), generation);
    // It was closed and taken out of here, lived on under another number, and has come back.
    if (code == EEXIST) code = tell_kernel(EPOLL_CTL_MOD, fd, bit(what), generation);
    if (code != 0) refuse(fd, code);
    w.armed = bit(what);
    w.generation = generation;
    return w;
  }

  // Has it watched for no more than is wanted.
  void disarm(int fd, watched& w) noexcept {
    const std::uint32_t wanted = w.wanted();
    if ((w.armed & ~wanted) == 0) return;
    if (wanted == 0 || tell_kernel(EPOLL_CTL_MOD, fd, wanted, w.generation) != 0) {
      tell_kernel(EPOLL_CTL_DEL, fd, 0, 0);
      w.armed = 0;
    } else {
      w.armed = wanted;
    }
  }

  // Nobody waits for it any more.
  void renounce(watched& w, std::error_code why) noexcept {
    w.armed = 0;
    for (side& s : w.sides) {
      if (const counted_pointer<callback> gone = std::exchange(s.called, nullptr)) left();
      while (descriptor_waiter* const first = s.first) {
        leave(*first);
        first->give_up(why);
      }
    }
  }

  // Before somebody enters: it may throw.
  void poll_soon() {
    if (!polling_ && !resting_) poller_->wait();
  }
  void entered() noexcept {
    if (interested_++ == 0) loop_access::io_started(loop_);
  }
  void left() noexcept {
    if (--interested_ > 0) return;
    loop_access::io_ended(loop_);
    if (!polling_ && poller_->table != nullptr) poller_->epoll.cancel();
  }

  void woken(std::error_code failure) {
    if (!failure) {
      loop_access::run_as_batch(loop_, [this] { poll(); });
    }
    polling_ = false;
    go_on();
  }

  void go_on() {
    if (interested_ > 0) poll_soon();
  }

  // What cannot be mended now would be told of again at once.
  void rest() {
    if (resting_) return;
    loop_.call_later(std::chrono::milliseconds(100), [p = poller_] {
      if (p->table == nullptr) return;
      p->table->resting_ = false;
      p->table->go_on();
    });
    resting_ = true;
  }

  void poll() noexcept {
    polling_ = true;
    epoll_event events[most_events];
    const int count = ::epoll_wait(poller_->epoll.native_handle(), events, most_events, 0);
    bool outdated = false;
    for (int i = 0; i < count; ++i) outdated = outdated || !is_current(events[i]);
    for (int i = 0; i < count; ++i) tell(events[i]);
    if (outdated) rebuild();
  }

  watched& of(const epoll_event& event) const noexcept {
    return *watched_[static_cast<std::size_t>(event.data.u64 & 0xffffffff)];
  }
  static std::uint32_t generation_of(const epoll_event& event) noexcept {
    return static_cast<std::uint32_t>(event.data.u64 >> 32);
  }
  bool is_current(const epoll_event& event) const noexcept {
    const watched& w = of(event);
    return w.armed != 0 && w.generation == generation_of(event);
  }

  void tell(const epoll_event& event) noexcept {
    // An error, or the end of the other side, concerns both.
    if ((event.events & ~bit(direction::out)) != 0) tell(event, direction::in);
    if ((event.events & ~bit(direction::in)) != 0) tell(event, direction::out);
    if (is_current(event)) disarm(static_cast<int>(event.data.u64 & 0xffffffff), of(event));
  }

  void tell(const epoll_event& event, direction what) noexcept {
    if (!is_current(event)) return;
    side& s = of(event).sides[index(what)];
    if (const counted_pointer<callback> called = s.called) {
      this_context = nullptr;
      if (this_step != nullptr) [[unlikely]] {
        this_step->begin(step_watch::kind::callback, called->where);
      }
      try {
        called->function();
      } catch (...) {
        report_callback_failure(loop_);
      }
    }
    while (is_current(event) && s.first != nullptr && s.first->attempt()) {
    }
  }

  // Begins anew, because the kernel tells of a file that nobody watches and that has no number any
  // more by which it could be taken out: its descriptor was closed, a copy of it was not.
  void rebuild() noexcept {
    try {
      const counted_pointer<poller> fresh = make_poller();
      poller_->end();
      poller_ = fresh;
    } catch (...) {
      try {
        rest();
      } catch (...) {  // then it is told of again at once
      }
      return;
    }
    for (std::size_t fd = 0; fd < watched_.size(); ++fd) {
      watched* const w = watched_[fd];
      if (w == nullptr || w->armed == 0) continue;
      w->generation = ++generations_;
      if (tell_kernel(EPOLL_CTL_ADD, static_cast<int>(fd), w->armed, w->generation) != 0) {
        renounce(*w, std::error_code(EBADF, std::system_category()));
      }
    }
  }

  event_loop& loop_;
  counted_pointer<poller> poller_;
  std::vector<watched*> watched_;  // by number; they stay
  std::size_t interested_ = 0;     // callbacks and waiters
  std::uint32_t generations_ = 0;
  unsigned at_once_ = 0;
  bool polling_ = false;
  bool resting_ = false;  // for a tenth of a second
};

void descriptor_waiter::leave() noexcept {
  if (table_ != nullptr) table_->leave(*this);
}

}  // namespace pulsar::detail
