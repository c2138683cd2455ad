// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The threads of an executor, and what a loop waits for from them.

#include <pulsar/core/detail/blocking_wait.hpp>
#include <pulsar/core/detail/counted.hpp>
#include <pulsar/core/detail/outside_work.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/log.hpp>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

namespace pulsar::detail {

class thread_pool;

class pool_calls;

/// A function on its way through a pool: counted by the pool until it was brought back, and by the
/// loop while somebody waits for it.
class pool_job : public counted, public task_node {
 public:
  pool_job() noexcept : task_node(&arrive) {}

 protected:
  /// In a thread of the pool.
  virtual void run() noexcept = 0;
  /// In the loop.
  virtual void settle(hand_made_state& state) noexcept = 0;

  std::exception_ptr failure_;

 private:
  friend class thread_pool;
  friend class pool_calls;

  static inline void arrive(task_node* node, bool drop);

  counted_pointer<thread_pool> pool_;
  counted_pointer<loop_inbox> home_;
  // In the queue of the pool, under its lock.
  pool_job* before_ = nullptr;
  pool_job* behind_ = nullptr;
  bool queued_ = false;
  // In the list of the loop, in its thread.
  pool_calls* calls_ = nullptr;
  hand_made_state* waiting_ = nullptr;  // null once nobody does
  pool_job* previous_ = nullptr;
  pool_job* next_ = nullptr;
};

/// Threads that take jobs from one queue. Any thread.
class thread_pool : public counted {
 public:
  explicit thread_pool(std::size_t threads) : most_(checked(threads)) {}
  ~thread_pool() override { close(); }

  static std::size_t usual_size() noexcept {
    return std::min<std::size_t>(32, std::thread::hardware_concurrency() + 4);
  }

  /// Throws `errc::closed`, or the system's error if there is no thread at all and none can be
  /// made.
  void submit(pool_job* job) {
    const std::unique_lock lock(mutex_);
    if (closed_) throw error(errc::closed, "the executor has ended");
    join_ended();
    if (idle_ <= queued_ && running_ < most_) {
      try {
        start_thread();
      } catch (const std::system_error&) {
        if (running_ == 0) throw;
      }
    }
    job->before_ = last_;
    job->behind_ = nullptr;
    (last_ != nullptr ? last_->behind_ : first_) = job;
    last_ = job;
    job->queued_ = true;
    job->take();
    ++queued_;
    changed_.notify_one();
  }

  /// Takes it out; false if it has begun.
  bool remove(pool_job* job) noexcept {
    const std::lock_guard lock(mutex_);
    if (!job->queued_) return false;
    unlink(job);
    return true;
  }

  void resize(std::size_t threads) {
    const std::lock_guard lock(mutex_);
    most_ = checked(threads);
    join_ended();
    for (std::size_t i = idle_; i < queued_ && running_ < most_; ++i) {
      try {
        start_thread();
      } catch (const std::system_error&) {
        break;  // those that there are do it
      }
    }
    changed_.notify_all();
  }

  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return most_;
  }
  std::size_t queued() const {
    const std::lock_guard lock(mutex_);
    return queued_;
  }

  void close() noexcept {
    std::unique_lock lock(mutex_);
    closed_ = true;
    while (pool_job* const job = first_) {
      unlink(job);
      job->failure_ = std::make_exception_ptr(error(errc::closed, "the executor has ended"));
      bring_back(job);
    }
    changed_.notify_all();
    const auto none_runs = [this] { return running_ == 0; };
    const std::chrono::nanoseconds patience = std::chrono::seconds(1);
    if (!wait_blocking(lock, ended_, &patience, none_runs)) {
      const std::size_t left = running_;
      lock.unlock();  // whoever is told may ask this
      log::warning(
          "an executor that ends, or its loop, waits for {} of its functions, which no one "
          "can interrupt",
          left);
      lock.lock();
      ended_.wait(lock, none_runs);
    }
    join_ended();
  }

 private:
  struct worker {
    std::thread thread;
    worker* next = nullptr;
  };

  static std::size_t checked(std::size_t threads) {
    if (threads > 0) return threads;
    throw error(std::make_error_code(std::errc::invalid_argument),
                "an executor needs a thread at least");
  }

  static void bring_back(pool_job* job) noexcept {
    const auto home = job->home_;  // the loop may free the job while `push` is still at work
    if (!home->push(job)) job->drop();
  }

  void unlink(pool_job* job) noexcept {
    (job->before_ != nullptr ? job->before_->behind_ : first_) = job->behind_;
    (job->behind_ != nullptr ? job->behind_->before_ : last_) = job->before_;
    job->queued_ = false;
    --queued_;
  }

  // Signals belong to the program's own threads.
  void start_thread() {
    auto* const made = new worker;
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      made->thread = std::thread(&thread_pool::work, this, made);
    } catch (...) {
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
      delete made;
      throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ++running_;
  }

  // A thread from its beginning to its end.
  void work(worker* self) noexcept {
    std::unique_lock lock(mutex_);
    while (running_ <= most_) {
      if (pool_job* const job = first_) {
        unlink(job);
        lock.unlock();
        job->run();
        bring_back(job);
        lock.lock();
      } else if (closed_) {
        break;
      } else {
        ++idle_;
        changed_.wait(lock);
        --idle_;
      }
    }
    --running_;
    self->next = over_;
    over_ = self;
    ended_.notify_all();
  }

  void join_ended() noexcept {
    while (worker* const w = over_) {
      over_ = w->next;
      w->thread.join();
      delete w;
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable ended_;
  pool_job* first_ = nullptr;
  pool_job* last_ = nullptr;
  std::size_t queued_ = 0;
  std::size_t most_;
  std::size_t running_ = 0;  // threads
  std::size_t idle_ = 0;
  worker* over_ = nullptr;  // to be joined
  bool closed_ = false;
};

template <class F, class R>
class pool_job_of final : public pool_job {
 public:
  using result = R;
  template <class G>
  explicit pool_job_of(G&& f) : function_(std::forward<G>(f)) {}
  ~pool_job_of() override {
    if constexpr (!std::is_void_v<R>) {
      if (value_ != nullptr) value_->~R();
    }
  }

 private:
  void run() noexcept override {
    try {
      if constexpr (std::is_void_v<R>) {
        function_();
      } else {
        value_ = ::new (static_cast<void*>(room_.bytes)) R(function_());
      }
    } catch (...) {
      this->failure_ = std::current_exception();
    }
  }

  void settle(hand_made_state& to) noexcept override {
    auto& state = static_cast<shared_state<R>&>(to);
    try {
      if (this->failure_ != nullptr) {
        state.fail(std::move(this->failure_));
      } else if constexpr (std::is_void_v<R>) {
        state.succeed();
      } else {
        state.succeed(std::move(*value_));
      }
    } catch (...) {  // of moving it
      state.fail(std::current_exception());
    }
  }

  F function_;
  [[no_unique_address]] value_room<R> room_;
  std::conditional_t<std::is_void_v<R>, std::nullptr_t, R*> value_{};
};

/// What waits for a job.
template <class R>
struct pool_call final : shared_state<R> {
  pool_call(event_loop& l, pool_calls& c, pool_job& j) : shared_state<R>(l), calls(c), job(j) {}
  inline void on_cancelled() noexcept override;
  const char* name() const noexcept override { return "a thread of an executor"; }

  pool_calls& calls;
  pool_job& job;
};

/// The jobs that one loop waits for.
class pool_calls final : public loop_extension {
 public:
  explicit pool_calls(event_loop& loop) : loop_(loop), outside_(outside_work::of(loop)) {}
  ~pool_calls() override {
    while (first_ != nullptr) {
      first_->waiting_->fail(std::make_exception_ptr(error(errc::cancelled)));
      abandon(*first_);
    }
    if (own_) own_->close();
  }

  void use(counted_pointer<thread_pool> pool) noexcept { usual_ = std::move(pool); }

  thread_pool& usual() {
    if (!usual_) {
      own_ = counted_pointer<thread_pool>(new thread_pool(thread_pool::usual_size()));
      usual_ = own_;
    }
    return *usual_;
  }

  /// Takes `made` over.
  template <class Job>
  future<typename Job::result> start(thread_pool& pool, Job* made) {
    const counted_pointer<pool_job> job(made);
    auto* const call = new pool_call<typename Job::result>(loop_, *this, *job);
    call->handed_out = true;
    auto answer = future_access::make<typename Job::result>(call);
    job->pool_ = share(pool);
    job->home_ = loop_access::inbox(loop_);
    try {
      pool.submit(job.get());
    } catch (...) {
      call->fail(std::current_exception());
      return answer;
    }
    ++call->count;
    enter(*job, *call);
    return answer;
  }

  /// Nobody waits for it any more; it does not begin if it has not.
  void abandon(pool_job& job) noexcept {
    const counted_pointer<pool_job> kept = share(job);
    hand_made_state* const state = leave(job);
    if (job.pool_->remove(&job)) job.drop();
    state->drop();
  }

  void settle(pool_job& job) noexcept {
    hand_made_state* const state = leave(job);
    job.settle(*state);
    state->drop();
  }

 private:
  void enter(pool_job& job, hand_made_state& state) noexcept {
    job.take();
    job.calls_ = this;
    job.waiting_ = &state;
    job.next_ = first_;
    if (first_ != nullptr) first_->previous_ = &job;
    first_ = &job;
    outside_.begin();
  }

  hand_made_state* leave(pool_job& job) noexcept {
    (job.previous_ != nullptr ? job.previous_->next_ : first_) = job.next_;
    if (job.next_ != nullptr) job.next_->previous_ = job.previous_;
    outside_.end();
    job.drop();
    return std::exchange(job.waiting_, nullptr);
  }

  event_loop& loop_;
  outside_work& outside_;  // attached before, and gone behind this
  counted_pointer<thread_pool> usual_;
  counted_pointer<thread_pool> own_;
  pool_job* first_ = nullptr;
};

void pool_job::arrive(task_node* node, bool drop) {
  auto* const self = static_cast<pool_job*>(node);
  // The end of `calls_` tells those who wait when the loop closes.
  if (!drop && self->waiting_ != nullptr) self->calls_->settle(*self);
  self->drop();
}

template <class R>
void pool_call<R>::on_cancelled() noexcept {
  calls.abandon(job);
}

}  // namespace pulsar::detail
