// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What a loop does in debug mode, or by a seed: slower ways to do the same, and what is said then.

#include <pulsar/core/detail/function_name.hpp>
#include <pulsar/core/event_loop.hpp>

#include <cxxabi.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <typeinfo>
#include <utility>

namespace pulsar {

namespace detail {

inline void log_place(log_level level, std::string& text, std::source_location where) {
  if (where.line() != 0) {
    text.append(" (").append(where.file_name()).append(":").append(std::to_string(where.line()));
    text.append(", ").append(function_name(where.function_name())).append(")");
  }
  log::write(level, "{}", text);
}

[[gnu::noinline]] inline void step_watch::end() noexcept { begin(kind::none); }

inline std::string class_name(const std::type_info& type) {
  char* const text = abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr);
  const std::string name(text != nullptr ? text : type.name());
  std::free(text);
  return name;
}

[[gnu::noinline]] inline void step_watch::begin(kind what,
                                                std::source_location where,
                                                const std::type_info* type) noexcept {
  const auto now = std::chrono::steady_clock::now();
  const kind before = what_;
  const auto place = where_;
  const auto* const called = type_;
  const auto took = now - since_;
  what_ = what;
  where_ = where;
  type_ = type;
  since_ = now;
  if (before == kind::none || took < limit) return;
  std::string text = "the event loop was held up for ";
  text += std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
  text += before == kind::coroutine ? " ms by a coroutine that went on behind its await"
          : before == kind::callback ? " ms by a callback that was handed to it"
          : before == kind::protocol ? " ms by a call of a protocol"
                                     : " ms by what belongs to no coroutine";
  if (called != nullptr) text += ", a " + class_name(*called);
  log_place(log_level::warning, text, place);
}

/// Steele, Lea and Flood's SplitMix64.
inline std::uint64_t next_random(std::uint64_t& state) noexcept {
  std::uint64_t z = state += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

}  // namespace detail

inline void event_loop::set_debug(bool on) noexcept {
  check_thread("set_debug");
  if (on == debug_) return;
  debug_ = on;
  detail::loops_in_debug += on ? 1U : ~0U;
  if (batches_ == 0) return;
  quick_ = !detail::always_checked && !debug_;
  detail::this_step = on ? &steps_ : nullptr;
}

inline void event_loop::set_seed(std::uint64_t seed) noexcept {
  check_thread("set_seed");
  seed_ = seed;
  shuffled_ = true;
}

// One of what is ready: any coroutine among the first, or the first of all else.
inline detail::task_node* event_loop::pick_ready() noexcept {
  if (!shuffled_) return ready_.pop();
  constexpr unsigned window = 64;
  detail::task_node** candidates[window];
  unsigned count = 0;
  bool callback_seen = false;
  detail::task_node** link = ready_.first();
  for (unsigned i = 0; *link != nullptr && i < window; ++i, link = &(*link)->next) {
    const bool coroutine = (*link)->call == &detail::continuation::resume;
    if (!coroutine && callback_seen) continue;
    callback_seen = callback_seen || !coroutine;
    candidates[count++] = link;
  }
  if (count == 0) return nullptr;
  if (count == 1) return ready_.take(candidates[0]);
  return ready_.take(candidates[detail::next_random(seed_) % count]);
}

[[gnu::noinline]] inline void event_loop::run_ready_carefully() {
  unsigned count = 0;
  const time_point start = time();
  while (detail::task_node* node = pick_ready()) {
    depth_ = 0;
    detail::this_context = nullptr;
    if (detail::this_step != nullptr) detail::this_step->begin(detail::step_watch::kind::inner);
    node->call(node, false);
    if (detail::this_step != nullptr) detail::this_step->end();
    const time_point now = refresh();
    if (++count >= detail::batch_callbacks || now - start > detail::batch_time) break;
  }
}

inline void event_loop::check_runner(const char* what) const noexcept {
  if (!running_ || thread_ == std::this_thread::get_id()) return;
  log::critical(
      "{} was called from thread {}, but the event loop runs in thread {}: use "
      "call_soon_threadsafe, tell or send_wait there",
      what, ::gettid(), thread_number_);
  std::abort();
}

[[gnu::noinline]] inline void event_loop::timers_changed_carefully() noexcept {
  check_thread("arming a timer");
  if (batches_ == 0) post_ready();
}

// -- callbacks that are called again ----------------------------------------------

inline void event_loop::check_period(duration period) const {
  check_open("call_repeatedly");
  if (period > duration::zero()) return;
  throw error(std::make_error_code(std::errc::invalid_argument),
              "call_repeatedly needs a period above zero; for every turn there is call_every");
}

namespace detail {

inline periodic_callback_base::periodic_callback_base(task_node::function f,
                                                      event_loop& l,
                                                      std::source_location w,
                                                      duration p) noexcept
    : timed_callback_base(f, l, w), period(p), start(l.time()) {}

inline bool periodic_callback_base::again() noexcept {
  const auto passed = (loop.time() - start) / period;
  loop_access::arm_at(loop, *this, loop_data::later(start + passed * period, period));
  return true;
}

inline bool turn_callback_base::again() noexcept { return loop_access::inbox(loop)->push(this); }

inline void callback_base::check_thread() const noexcept {
  if (reached == stage::waiting) loop_access::check_thread(loop, "cancelling a callback");
}

}  // namespace detail

inline std::optional<event_loop::time_point> handle::when() const noexcept {
  if (node_ == nullptr || !node_->timed) return std::nullopt;
  auto& timer = static_cast<detail::timed_callback_base&>(*node_);
  if (timer.fresh() && timer.armed()) detail::loop_access::settle_timers(timer.loop);
  if (timer.fresh()) return std::nullopt;
  return event_loop::time_point(std::chrono::milliseconds(timer.due()));
}

}  // namespace pulsar
