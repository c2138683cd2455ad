// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// A loop for those who have none: its thread begins with the first call and ends with the program.

#include <pulsar/core/event_loop.hpp>

#include <signal.h>

#include <future>
#include <thread>

namespace pulsar::detail {

class background_loop {
 public:
  static event_loop& get() {
    static background_loop instance;
    return *instance.loop_;
  }

 private:
  background_loop() {
    std::promise<event_loop*> begun;
    // Signals belong to the program's own threads.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::thread([&begun] {
        event_loop loop;
        begun.set_value(&loop);
        loop.run_forever();
      });
    } catch (...) {
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    loop_ = begun.get_future().get();
  }
  background_loop(const background_loop&) = delete;
  background_loop& operator=(const background_loop&) = delete;
  ~background_loop() {
    if (std::this_thread::get_id() == thread_.get_id()) {  // it calls exit()
      thread_.detach();
      return;
    }
    loop_->stop();
    thread_.join();
  }

  std::thread thread_;
  event_loop* loop_ = nullptr;
};

}  // namespace pulsar::detail
