// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What has become of a future, as a word, for logs and debuggers.
///
///     log::info("the page is {}", status_of(page));   // pending, done, failed, cancelled, empty
///     fmt::print("{}\n", page);                       // <future failed: no such host>
///
/// To look at a failure in this way does not count as seeing it.

#include <pulsar/core/future.hpp>
#include <pulsar/core/shared_future.hpp>

#include <fmt/format.h>

#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>

namespace pulsar {

/// What has become of a future.
enum class future_status {
  empty,  ///< It was moved from, awaited or detached.
  pending,
  done,  ///< There is a result, or it was taken.
  failed,
  cancelled,  ///< It failed with `errc::cancelled`.
};

/// Its name.
constexpr std::string_view to_string(future_status s) noexcept {
  constexpr std::string_view names[] = {"empty", "pending", "done", "failed", "cancelled"};
  return names[static_cast<std::size_t>(s)];
}

namespace detail {

inline future_status status_of_state(const state* s) noexcept {
  if (s == nullptr) return future_status::empty;
  if (!s->done()) return future_status::pending;
  if (s->progress != status::failed) return future_status::done;
  return is_cancelled(s->failure) ? future_status::cancelled : future_status::failed;
}

inline std::string text_of_state(const state* s) {
  const auto what = status_of_state(s);
  std::string text("<future ");
  text.append(to_string(what));
  if (what == future_status::failed) text.append(": ").append(describe(s->failure));
  return text + ">";
}

template <class T>
const state* state_of(const future<T>& f) noexcept {
  return future_access::slot(const_cast<future<T>&>(f));
}

}  // namespace detail

template <class T>
future_status status_of(const future<T>& f) noexcept {
  return detail::status_of_state(detail::state_of(f));
}
template <class T>
future_status status_of(const shared_future<T>& f) noexcept {
  return detail::status_of_state(detail::state_of(f));
}

inline std::ostream& operator<<(std::ostream& out, future_status s) { return out << to_string(s); }
template <class T>
std::ostream& operator<<(std::ostream& out, const future<T>& f) {
  return out << detail::text_of_state(detail::state_of(f));
}
template <class T>
std::ostream& operator<<(std::ostream& out, const shared_future<T>& f) {
  return out << detail::text_of_state(detail::state_of(f));
}

}  // namespace pulsar

template <>
struct fmt::formatter<pulsar::future_status> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(pulsar::future_status s, Context& context) const {
    return fmt::formatter<std::string_view>::format(pulsar::to_string(s), context);
  }
};

template <class T>
struct fmt::formatter<pulsar::future<T>> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const pulsar::future<T>& f, Context& context) const {
    return fmt::formatter<std::string_view>::format(
        pulsar::detail::text_of_state(pulsar::detail::state_of(f)), context);
  }
};

template <class T>
struct fmt::formatter<pulsar::shared_future<T>> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const pulsar::shared_future<T>& f, Context& context) const {
    return fmt::formatter<std::string_view>::format(
        pulsar::detail::text_of_state(pulsar::detail::state_of(f)), context);
  }
};
