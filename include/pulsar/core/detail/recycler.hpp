// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Memory for coroutine frames, callbacks and messages: freed blocks are kept a thread and a size
// class, so that a warm program allocates nothing. A message is allocated in one thread and freed
// in another: what piles up in the one goes back to the other a magazine of blocks at a time,
// through a depot of the process. With AddressSanitizer every block is fresh, so that it can see a
// use after free.

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

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
  static constexpr std::size_t classes = 32;             // blocks of up to 2 KiB are kept
  static constexpr std::int32_t magazine = 64;           // blocks; a thread keeps up to two a class
  static constexpr std::size_t depot_bytes = 2U << 20U;  // at most, a class

  static void* allocate(std::size_t size) {
    const std::size_t index = class_of(size);
    if (recycling && index < classes) [[likely]] {
      shelf& s = cache_.shelves[index];
      if (block* first = s.first) [[likely]] {
        s.first = first->next;
        ++s.room;
        return first;
      }
    }
    return refill(size);
  }

  // Forced: g++ 12 thinks better of it in a larger program, which costs each await a call.
  [[gnu::always_inline]] static void deallocate(void* memory, std::size_t size) noexcept {
    const std::size_t index = class_of(size);
    if (recycling && index < classes && --cache_.shelves[index].room >= 0) [[likely]] {
      put(cache_.shelves[index], memory);
      return;
    }
    overflow(memory, index);
  }

 private:
  struct block {
    block* next;
    block* next_magazine;  // of the first block of a magazine in the depot
  };
  struct shelf {
    block* first;
    block* spare;  // a whole magazine or none
    std::int32_t room;  // for so many blocks more
  };
  // Trivial, so that access needs no guard; it has no room until the thread's sweeper stands, and
  // again once that has run.
  struct cache {
    shelf shelves[classes];
    bool open;
  };

  // Magazines that one thread has too many of and another may want.
  struct depot {
    std::mutex mutex;
    block* first;
    std::size_t count;

    bool give(block* whole, std::size_t most) noexcept {
      const std::lock_guard lock(mutex);
      if (count >= most) return false;
      ++count;
      whole->next_magazine = std::exchange(first, whole);
      return true;
    }
    block* take() noexcept {
      const std::lock_guard lock(mutex);
      block* whole = first;
      if (whole != nullptr) {
        first = whole->next_magazine;
        --count;
      }
      return whole;
    }
  };

  struct sweeper {
    sweeper() noexcept {
      cache_.open = true;
      for (shelf& s : cache_.shelves) s.room = magazine;
    }
    sweeper(const sweeper&) = delete;
    sweeper& operator=(const sweeper&) = delete;
    ~sweeper() {
      cache_.open = false;
      for (shelf& s : cache_.shelves) {
        s.room = 0;
        free_all(std::exchange(s.first, nullptr));
        free_all(std::exchange(s.spare, nullptr));
      }
    }
  };

  static constexpr std::size_t class_of(std::size_t size) noexcept {
    return (size + granule - 1) / granule - 1;
  }
  static constexpr std::size_t most_magazines(std::size_t index) noexcept {
    return depot_bytes / ((index + 1) * granule * std::size_t{magazine});
  }

  static void put(shelf& s, void* memory) noexcept {
    auto* freed = static_cast<block*>(memory);
    freed->next = s.first;
    s.first = freed;
  }

  static void free_all(block* first) noexcept {
    while (first != nullptr) ::operator delete(std::exchange(first, first->next));
  }

  static void stand_sweeper() noexcept {
    static thread_local sweeper instance;
    static_cast<void>(instance);
  }

  // The shelf is empty, or there is none for that size.
  [[gnu::noinline]] static void* refill(std::size_t size) {
    const std::size_t index = class_of(size);
    if (recycling && index < classes) {
      stand_sweeper();
      shelf& s = cache_.shelves[index];
      block* whole = std::exchange(s.spare, nullptr);
      if (whole == nullptr && cache_.open) whole = depots_[index].take();
      if (whole != nullptr) {
        s.first = whole->next;
        s.room = 1;
        return whole;
      }
    }
    return ::operator new((size + granule - 1) / granule * granule);
  }

  // The shelf holds a whole magazine and has said so once too often, or there is none.
  [[gnu::noinline]] static void overflow(void* memory, std::size_t index) noexcept {
    if (recycling && index < classes) {
      shelf& s = cache_.shelves[index];
      s.room = 0;
      stand_sweeper();
      if (cache_.open) {
        if (s.room == 0) {
          block* whole = std::exchange(s.spare, std::exchange(s.first, nullptr));
          s.room = magazine;
          if (whole != nullptr && !depots_[index].give(whole, most_magazines(index))) {
            free_all(whole);
          }
        }
        --s.room;
        return put(s, memory);
      }
    }
    ::operator delete(memory);
  }

  static constinit thread_local inline cache cache_{};
  static constinit inline depot depots_[classes]{};
};

/// Gives a class that derives from it recycled memory; fresh memory if it wants more than the usual
/// alignment.
struct recycled {
  static void* operator new(std::size_t size, std::align_val_t alignment) {
    return ::operator new(size, alignment);
  }
  static void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept {
    ::operator delete(memory, alignment);
  }
  static void* operator new(std::size_t size) { return recycler::allocate(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    recycler::deallocate(memory, size);
  }
};

}  // namespace pulsar::detail
