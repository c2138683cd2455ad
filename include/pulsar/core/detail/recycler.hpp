// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Memory for coroutine frames, callbacks and messages: freed blocks are kept a thread and a size
// class, so that a warm program allocates nothing. With AddressSanitizer every block is fresh,
// so that it can see a use after free.

#include <cstddef>
#include <cstdint>
#include <new>

namespace pulsar::detail {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool recycling = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool recycling = false;
#else
inline constexpr bool recycling = true;
#endif
#else
inline constexpr bool recycling = true;
#endif

class recycler {
 public:
  static constexpr std::size_t granule = 64;
  static constexpr std::size_t classes = 32;       // blocks of up to 2 KiB are kept
  static constexpr std::uint32_t most_kept = 1024;  // blocks a class and thread

  static void* allocate(std::size_t size) {
    const std::size_t index = class_of(size);
    if (recycling && index < classes) {
      if (block* first = cache_.free[index]) {
        cache_.free[index] = first->next;
        --cache_.count[index];
        return first;
      }
    }
    return fresh(size);
  }

  static void deallocate(void* memory, std::size_t size) noexcept {
    const std::size_t index = class_of(size);
    if (recycling && index < classes && cache_.count[index] < cache_.limit) {
      auto* freed = static_cast<block*>(memory);
      freed->next = cache_.free[index];
      cache_.free[index] = freed;
      ++cache_.count[index];
      return;
    }
    ::operator delete(memory);
  }

 private:
  struct block {
    block* next;
  };
  // Trivial, so that access needs no guard; `limit` is zero until the thread's sweeper stands, and
  // again once it has run.
  struct cache {
    block* free[classes];
    std::uint32_t count[classes];
    std::uint32_t limit;
  };
  struct sweeper {
    sweeper() noexcept { cache_.limit = most_kept; }
    sweeper(const sweeper&) = delete;
    sweeper& operator=(const sweeper&) = delete;
    ~sweeper() {
      cache_.limit = 0;
      for (std::size_t i = 0; i < classes; ++i) {
        cache_.count[i] = 0;
        while (block* first = cache_.free[i]) {
          cache_.free[i] = first->next;
          ::operator delete(first);
        }
      }
    }
  };

  static constexpr std::size_t class_of(std::size_t size) noexcept {
    return (size + granule - 1) / granule - 1;
  }

  [[gnu::noinline]] static void* fresh(std::size_t size) {
    static thread_local sweeper instance;
    static_cast<void>(instance);
    return ::operator new((size + granule - 1) / granule * granule);
  }

  static constinit thread_local inline cache cache_{};
};

/// Gives a class that derives from it recycled memory.
struct recycled {
  static void* operator new(std::size_t size) { return recycler::allocate(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    recycler::deallocate(memory, size);
  }
};

}  // namespace pulsar::detail
