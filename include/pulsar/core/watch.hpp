// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Callbacks for descriptors that somebody else owns: `event_loop::add_reader`, `add_writer` (PEP
/// 3156), for what has its own idea of I/O: a library's socket, an eventfd, inotify.
///
///     loop.add_reader(inotify, [&] { read_events(inotify); });
///     ...
///     loop.remove_reader(inotify);
///     ::close(inotify);
///
/// A callback is called in each turn of the loop in which the descriptor is ready, until it has
/// made it otherwise or is removed; other I/O and callbacks have their turn in between. An error on
/// the descriptor, and the end of the other side, make it ready both ways.
///
/// The descriptor stays the caller's, who removes it before closing it. One that was closed all the
/// same is forgotten without a word, at the latest when its number is watched again as another
/// file; but while a copy of it is open, here or in another process, its callback is called on.

#include <pulsar/core/detail/descriptor_table.hpp>
#include <pulsar/core/event_loop.hpp>

#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace pulsar {

namespace detail {

template <class F>
void watch_descriptor(event_loop& loop, int fd, direction what, F&& f, std::source_location where) {
  static_assert(!returns_coroutine<std::decay_t<F>>,
                "a callback that returns a future would be cancelled as soon as it has begun: have "
                "it call detach() on the future");
  loop_access::local<descriptor_table>(loop).set(fd, what,
                                                 std::function<void()>(std::forward<F>(f)), where);
}

inline bool unwatch_descriptor(event_loop& loop, int fd, direction what) noexcept {
  loop_access::check_thread(loop, "removing a reader or writer");
  auto* const table = loop_access::find_local<descriptor_table>(loop);
  return table != nullptr && table->remove(fd, what);
}

}  // namespace detail

/// Calls `f()` in every turn of the loop in which `fd` can be read, or is at its end. A second one
/// replaces the first. An exception goes to the exception handler, and `f` is called again. Throws
/// `errc::loop_closed`, and the system's error for what cannot be watched:
/// `std::errc::operation_not_permitted` for a file or directory, which is always ready.
template <class F>
void event_loop::add_reader(int fd, F&& f, source_location where) {
  check_open("add_reader");
  detail::watch_descriptor(*this, fd, detail::direction::in, std::forward<F>(f), where);
}

/// The same for when `fd` can be written to.
template <class F>
void event_loop::add_writer(int fd, F&& f, source_location where) {
  check_open("add_writer");
  detail::watch_descriptor(*this, fd, detail::direction::out, std::forward<F>(f), where);
}

/// `fd` is not watched for reading any more, from now on; false if it was not. `fd` may be closed
/// already.
inline bool event_loop::remove_reader(int fd) noexcept {
  return detail::unwatch_descriptor(*this, fd, detail::direction::in);
}

/// The same for writing.
inline bool event_loop::remove_writer(int fd) noexcept {
  return detail::unwatch_descriptor(*this, fd, detail::direction::out);
}

}  // namespace pulsar
