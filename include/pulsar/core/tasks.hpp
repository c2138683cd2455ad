// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// What a program waits for: `event_loop::tasks` and `dump_tasks`, which shows who awaits whom.
///
///     pulsar::dump_tasks_on(SIGUSR1);    // in any program with a loop; then: kill -USR1 <pid>
///
///     -- process 4711, thread 4711: 3 coroutines
///     serve at server.cpp:40, 2 min 5 s
///       with_timeout, 1.2 s, 3.8 s left
///         read_request at server.cpp:17 [request=17], 1.2 s: a read from 10.0.0.7:51324
///
/// A coroutine appears once it has suspended. Its line is that of the await at which it stands, its
/// age the time since its first one, of a generator since it was asked for an item. In brackets
/// stand its log fields (`with_log_field`) where its awaiter has others.

#include <pulsar/core/address.hpp>
#include <pulsar/core/detail/function_name.hpp>
#include <pulsar/core/detail/gathering.hpp>
#include <pulsar/core/detail/readiness.hpp>
#include <pulsar/core/detail/shared_future.hpp>
#include <pulsar/core/event_loop.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/signals.hpp>
#include <pulsar/core/timeout.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pulsar {

/// A coroutine that has suspended and has not ended.
struct task_info {
  static constexpr std::size_t none = ~std::size_t{0};

  std::string function;        ///< Its name, without types: "fetch", "serve::<lambda>".
  std::string file;            ///< Of the await at which it stands.
  unsigned line = 0;           ///< The same.
  event_loop::duration age{};  ///< Since it suspended first; in milliseconds.
  /// "a sleep (58.5 s left)", "a read from 10.0.0.7:51324", "a mutex" ...; empty if other
  /// coroutines are all.
  std::string waits_for;
  /// Until its time limit, if it is one of `with_timeout`, `wait_until` and `with_deadline`.
  std::optional<event_loop::duration> left;
  std::string log_fields;      ///< What its log lines carry: "[request=17]".
  std::size_t awaiter = none;  ///< Which one of the same list waits for it.
};

namespace detail {

inline std::string age_text(event_loop::duration age);

/// Where combinators stand is nobody's business, nor is what else is of this library.
inline std::string place_text(std::string_view file, unsigned line) {
  for (const std::string_view ours :
       {"/pulsar/core/", "/pulsar/tls/", "/pulsar/actors/", "/pulsar/apps/", "/pulsar/testing/"}) {
    if (file.find(ours) != std::string_view::npos && file.ends_with(".hpp")) return {};
  }
  return " at " + std::string(file) + ":" + std::to_string(line);
}

/// Of a descriptor that somebody waits for.
inline std::string name_of(const readiness_awaiter& wait) {
  const int fd = wait.fd();
  if (fd < 0) return "it is about to go on";
  int listens = 0;
  socklen_t size = sizeof listens;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0) {
    return "a connection at " + address_of_socket(fd, &::getsockname).to_string();
  }
  const bool reads = wait.what() == watched_descriptor::wait_read;
  return "descriptor " + std::to_string(fd) + (reads ? " to be readable" : " to be writable");
}

/// Finds out who waits for whom in one loop.
class task_survey {
 public:
  explicit task_survey(event_loop& loop) : loop_(loop) {
    for (state* s = loop_access::frames(loop).first(); s != nullptr; s = s->next) {
      if (!s->done()) frames_.push_back(static_cast<frame*>(s));
    }
    std::reverse(frames_.begin(), frames_.end());  // the oldest first
    for (std::size_t i = 0; i < frames_.size(); ++i) places_.emplace(frames_[i], i);
    tasks_.resize(frames_.size());
    met_.resize(frames_.size(), task_info::none);
    loop_access::timers(loop).each([this](const timer_node& node) {
      if (!node.calls(&time_limit::fire)) return;
      limits_.emplace(static_cast<const time_limit&>(node).watched, &node);
    });
  }

  std::vector<task_info> take() && {
    for (std::size_t i = 0; i < frames_.size(); ++i) describe(i);
    break_circles();
    return std::move(tasks_);
  }

 private:
  void describe(std::size_t i) {
    frame& f = *frames_[i];
    task_info& t = tasks_[i];
    t.function = function_name(f.where.function_name());
    t.file = f.where.file_name();
    t.line = f.where.line();
    t.age = loop_access::age(loop_, f);
    if (f.works_for != nullptr && f.works_for->addition != nullptr) {
      t.log_fields = f.works_for->addition->fields;
      if (!t.log_fields.empty()) t.log_fields.pop_back();  // the space behind them
    }
    if (f.awaiter != nullptr && f.awaiter->waiter != nullptr) set_awaiter(f, *f.awaiter->waiter);
    cancellable* const waits = f.waiting_on;
    if (waits == nullptr) {
      t.waits_for = "it runs";
    } else if (waits->what == cancellable::kind::operation) {
      if (const gathering* all = gathering::from(*waits)) {
        all->each_awaited([&](state& s) { add_awaited(f, s); });
      } else if (const readiness_awaiter* ready = readiness_awaiter::from(*waits)) {
        t.waits_for = name_of(*ready);
      } else if (const shared_waiter* shared = shared_waiter::from(*waits)) {
        add_shared(f, shared->awaited());
      } else {
        t.waits_for = "an operation";
      }
    } else {
      auto& s = static_cast<state&>(*waits);
      // Who waits for what has a limit is who has set it.
      const auto limit = limits_.find(&s);
      if (limit != limits_.end()) t.left = loop_access::time_left(loop_, *limit->second);
      add_awaited(f, s);
    }
  }

  void add_awaited(frame& f, state& s) {
    std::string& text = tasks_[places_.at(&f)].waits_for;
    if (s.done()) {
      text = "it is about to go on";
    } else if (s.what == cancellable::kind::frame) {
      set_awaiter(static_cast<frame&>(s), f);
    } else {
      auto& made = static_cast<hand_made_state&>(s);
      if (!text.empty()) text += ", ";
      wait_description what;
      made.describe(what);
      text += what.text;
      if (what.until != nullptr && what.until->armed()) {
        text += " (" + age_text(loop_access::time_left(loop_, *what.until)) + " left)";
      }
      struct adding {
        task_survey& survey;
        frame& by;
        static void add(void* self, state& child) {
          static_cast<adding*>(self)->survey.add_child(static_cast<adding*>(self)->by, child);
        }
      } with{*this, f};
      made.each_awaited(&adding::add, &with);
    }
  }

  // Of those who wait for it the oldest stands above it.
  void add_shared(frame& f, state& work) {
    std::string& text = tasks_[places_.at(&f)].waits_for;
    if (!work.done() && work.what == cancellable::kind::frame) {
      auto& shared = static_cast<frame&>(work);
      text = function_name(shared.where.function_name()) +
             place_text(shared.where.file_name(), shared.where.line());
      const auto at = places_.find(&shared);
      if (at != places_.end() && tasks_[at->second].awaiter == task_info::none) {
        set_awaiter(shared, f);
      }
    } else {
      add_awaited(f, work);
    }
    if (!work.done()) text.insert(0, "a shared future: ");
  }

  // Who waits for himself, by way of a shared future, is to stand somewhere all the same.
  void break_circles() noexcept {
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      for (std::size_t at = i; at != task_info::none && met_[at] == task_info::none;) {
        met_[at] = i;
        std::size_t& above = tasks_[at].awaiter;
        if (above != task_info::none && met_[above] == i) above = task_info::none;
        at = above;
      }
    }
  }

  // A child of a group, or the work of a shield, which waits for whoever watches it there; or one
  // of `as_completed`, which nobody awaits.
  void add_child(frame& by, state& child) {
    if (child.awaiter != nullptr && child.awaiter->waiter != nullptr) {
      set_awaiter(*child.awaiter->waiter, by);
    } else if (!child.done() && child.what == cancellable::kind::frame) {
      set_awaiter(static_cast<frame&>(child), by);
    }
  }

  void set_awaiter(frame& of, frame& awaiter) {
    const auto at = places_.find(&of);
    const auto by = places_.find(&awaiter);
    if (at != places_.end() && by != places_.end()) tasks_[at->second].awaiter = by->second;
  }

  event_loop& loop_;
  std::vector<frame*> frames_;
  std::unordered_map<const frame*, std::size_t> places_;
  std::unordered_map<const state*, const timer_node*> limits_;
  std::vector<task_info> tasks_;
  std::vector<std::size_t> met_;  // on the way up from which one
};

/// As one says it: "250 ms", "12.5 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
inline std::string age_text(event_loop::duration age) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(age).count();
  const auto two = [](long long all, long long part, const char* large, const char* small) {
    std::string text = std::to_string(all / part) + large;
    if (all % part != 0) text += " " + std::to_string(all % part) + small;
    return text;
  };
  if (ms < 1000) return std::to_string(ms) + " ms";
  if (ms < 60'000) {
    std::string text = std::to_string(ms / 1000);
    if (ms / 100 % 10 != 0) text += "." + std::to_string(ms / 100 % 10);
    return text + " s";
  }
  if (ms < 3'600'000) return two(ms / 1000, 60, " min", " s");
  if (ms < 86'400'000) return two(ms / 60'000, 60, " h", " min");
  return two(ms / 3'600'000, 24, " d", " h");
}

/// `fields`: what is known from the line above.
inline void append_task(std::string& text,
                        const task_info& t,
                        std::size_t depth,
                        const std::string& fields) {
  std::string line = t.function + place_text(t.file, t.line);
  if (t.log_fields != fields) line.append(" ").append(t.log_fields);
  line.append(", ").append(age_text(t.age));
  if (t.left) line.append(", ").append(age_text(*t.left)).append(" left");
  if (!t.waits_for.empty()) line.append(": ").append(t.waits_for);
  tame(line);  // fields and paths may be a stranger's
  text.append(2 * std::min<std::size_t>(depth, 40), ' ').append(line) += '\n';
}

}  // namespace detail

/// The coroutines of `loop` as a tree, one a line: whoever is awaited stands below who awaits it.
/// In the thread of `loop`.
inline std::string format_tasks(event_loop& loop) {
  const auto tasks = loop.tasks();
  // The children of each, the oldest first; behind all, those that nobody awaits.
  std::vector<std::vector<std::size_t>> children(tasks.size() + 1);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    children[std::min(tasks[i].awaiter, tasks.size())].push_back(i);
  }
  struct place {
    std::size_t task;
    std::size_t depth;
  };
  std::vector<place> todo;  // no recursion: a chain may be long
  const std::string no_fields;
  std::string text;
  const auto enter = [&](std::size_t parent, std::size_t depth) {
    for (std::size_t i = children[parent].size(); i > 0; --i) {
      todo.push_back({children[parent][i - 1], depth});
    }
  };
  enter(tasks.size(), 0);
  while (!todo.empty()) {
    const place next = todo.back();
    todo.pop_back();
    const task_info& t = tasks[next.task];
    const bool is_root = t.awaiter == task_info::none;
    detail::append_task(text, t, next.depth, is_root ? no_fields : tasks[t.awaiter].log_fields);
    enter(next.task, next.depth + 1);
  }
  return text;
}

inline std::vector<task_info> event_loop::tasks() {
  check_thread("tasks");
  return detail::task_survey(*this).take();
}

namespace detail {

/// Prints the tasks of one loop, with a heading, in one piece.
inline void print_tasks(event_loop& loop, std::FILE* to) {
  const std::string tree = format_tasks(loop);
  const auto count = std::count(tree.begin(), tree.end(), '\n');
  std::string text =
      "-- process " + std::to_string(::getpid()) + ", thread " + std::to_string(::gettid());
  if (!log_speaker.empty()) text.append(" (").append(log_speaker).append(")");
  text += ": " + std::to_string(count) + (count == 1 ? " coroutine\n" : " coroutines\n") + tree;
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

/// Asks the loop of another thread to print its tasks.
class dump_request : task_node {
 public:
  static void send(loop_inbox& to, std::FILE* file) {
    auto* const made = new dump_request(file);
    if (!to.push(made)) delete made;
  }

 private:
  explicit dump_request(std::FILE* file) noexcept : task_node(&run), file_(file) {}

  static void run(task_node* node, bool drop) {
    auto* const self = static_cast<dump_request*>(node);
    if (!drop) print_tasks(*event_loop::running(), self->file_);
    delete self;
  }

  std::FILE* file_;
};

}  // namespace detail

/// Prints the tasks of every loop of the process to `to`, each as `format_tasks` does: those of the
/// calling thread at once, those of other threads as soon as these come to it, at the latest when
/// what holds them up has ended. `to` must stay open until then. Any thread.
inline void dump_tasks(std::FILE* to = stderr) {
  for (auto& inbox : detail::loop_registry::all()) {
    if (event_loop* mine = detail::loop_access::loop_to_read(*inbox)) {
      detail::print_tasks(*mine, to);
    } else {
      detail::dump_request::send(*inbox, to);
    }
  }
}

/// Has `loop` call `dump_tasks()` whenever the process receives `signal`, until
/// `remove_signal_handler`. It needs a loop that comes round: what holds up this one is best seen
/// in its debug mode.
inline void dump_tasks_on(int signal, event_loop& loop = event_loop::current()) {
  loop.add_signal_handler(signal, [] { dump_tasks(); });
}

}  // namespace pulsar
