// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `executor`: threads for what blocks, so that the loop does not (PEP 3156's executor).
///
///     const auto count = [path] { return count_lines(path); };
///     auto lines = co_await loop.run_in_executor(count);
///
///     pulsar::executor disk(2);                       // at most two at a time
///     co_await loop.run_in_executor(disk, [&] { file.sync(); });
///
/// The function runs in another thread: what it refers to must be safe there, and still be there
/// when the future was given up. With g++ 12 name a lambda that captures more than references and
/// numbers: see make.hpp.

#include <pulsar/core/detail/executor.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/make.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

namespace pulsar {

/// A pool of threads, which start as they are needed. Any thread may use it.
class executor {
 public:
  /// At most `threads` functions run at a time. Throws `std::errc::invalid_argument` for zero.
  explicit executor(std::size_t threads = detail::thread_pool::usual_size())
      : pool_(new detail::thread_pool(threads)) {}
  executor(const executor&) = delete;
  executor& operator=(const executor&) = delete;
  /// What runs is waited for, however long it takes, beyond a second with a warning in the log; what
  /// has not begun never does, and its futures fail with `errc::closed`.
  ~executor() { pool_->close(); }

  /// At most so many from now on; what runs is not interrupted. Throws as the constructor.
  void resize(std::size_t threads) { pool_->resize(threads); }

  /// The most that run at a time.
  std::size_t size() const { return pool_->size(); }
  /// How many functions have not begun.
  std::size_t queued() const { return pool_->queued(); }

 private:
  friend class event_loop;
  detail::counted_pointer<detail::thread_pool> pool_;
};

inline void event_loop::set_default_executor(executor& where) {
  check_open("set_default_executor");
  detail::loop_access::local<detail::pool_calls>(*this).use(where.pool_);
}

namespace detail {

/// In `where`, or in the pool that is usual in `loop`.
template <class F>
auto run_in_pool(event_loop& loop, thread_pool* where, F&& f) {
  refuse_temporaries<F>();
  using function = std::decay_t<F>;
  using result = std::invoke_result_t<function&>;
  static_assert(!is_future<result>, "a coroutine belongs to its loop: give it to create_task");
  static_assert(std::is_void_v<result> || std::is_object_v<result>,
                "what runs in an executor must give a value: its result goes to another thread");
  auto& calls = loop_access::local<pool_calls>(loop);
  return calls.start(where != nullptr ? *where : calls.usual(),
                     new pool_job_of<function, result>(std::forward<F>(f)));
}

}  // namespace detail

template <class F>
auto event_loop::run_in_executor(executor& where, F&& f) {
  check_open("run_in_executor");
  return detail::run_in_pool(*this, where.pool_.get(), std::forward<F>(f));
}

template <class F>
auto event_loop::run_in_executor(F&& f) {
  check_open("run_in_executor");
  return detail::run_in_pool(*this, nullptr, std::forward<F>(f));
}

}  // namespace pulsar
