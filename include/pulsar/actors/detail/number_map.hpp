// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// What is kept by number: one table of pointers for all types, since each map of the standard
// library costs a program a hundred functions.

#include <cstddef>
#include <cstdint>

namespace pulsar::detail {

/// Pointers, not null ones, by number: open addressing, linear probing.
class pointer_table {
 public:
  pointer_table() noexcept = default;
  pointer_table(const pointer_table&) = delete;
  pointer_table& operator=(const pointer_table&) = delete;
  ~pointer_table() { clear(); }

  std::size_t size() const noexcept { return size_; }

  /// Null if there is none.
  void* find(std::uint64_t number) const noexcept {
    return capacity_ == 0 ? nullptr : look(number)->value;
  }

  /// False, and nothing changes, if the number is taken.
  bool insert(std::uint64_t number, void* value) {
    if (2 * (size_ + 1) > capacity_) grow();
    slot* s = look(number);
    if (s->value != nullptr) return false;
    *s = {number, value};
    ++size_;
    return true;
  }

  /// Gives back what was there, or null.
  void* erase(std::uint64_t number) noexcept {
    slot* hole = capacity_ == 0 ? nullptr : look(number);
    if (hole == nullptr || hole->value == nullptr) return nullptr;
    void* value = hole->value;
    --size_;
    // Those behind it that probing would not find any more move up.
    const std::size_t mask = capacity_ - 1;
    std::size_t at = static_cast<std::size_t>(hole - slots_);
    for (std::size_t next = (at + 1) & mask; slots_[next].value != nullptr;
         next = (next + 1) & mask) {
      const std::size_t home = place(slots_[next].number);
      if (((next - home) & mask) < ((next - at) & mask)) continue;
      slots_[at] = slots_[next];
      at = next;
    }
    slots_[at] = {};
    return value;
  }

  void clear() noexcept {
    delete[] slots_;
    slots_ = nullptr;
    capacity_ = size_ = 0;
  }

  /// One after another, in no order, for a `from` that begins at 0; null at the end. Nothing may be
  /// inserted or erased meanwhile.
  void* next(std::size_t& from) const noexcept {
    while (from < capacity_) {
      const slot& s = slots_[from++];
      if (s.value != nullptr) return s.value;
    }
    return nullptr;
  }

 private:
  struct slot {
    std::uint64_t number = 0;
    void* value = nullptr;
  };

  std::size_t place(std::uint64_t number) const noexcept {
    return static_cast<std::size_t>((number * 0x9e3779b97f4a7c15ULL) >> 32) & (capacity_ - 1);
  }
  // The slot of that number, or the free one where it belongs.
  slot* look(std::uint64_t number) const noexcept {
    std::size_t at = place(number);
    while (slots_[at].value != nullptr && slots_[at].number != number) {
      at = (at + 1) & (capacity_ - 1);
    }
    return slots_ + at;
  }
  void grow() {
    const std::size_t before = capacity_;
    slot* old = slots_;
    const std::size_t wanted = before == 0 ? 16 : 2 * before;
    slots_ = new slot[wanted];
    capacity_ = wanted;
    for (std::size_t i = 0; i < before; ++i) {
      if (old[i].value != nullptr) *look(old[i].number) = old[i];
    }
    delete[] old;
  }

  slot* slots_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
};

/// Objects by number; does not own them.
template <class T>
class number_map {
 public:
  std::size_t size() const noexcept { return table_.size(); }
  bool empty() const noexcept { return table_.size() == 0; }
  T* find(std::uint64_t number) const noexcept { return static_cast<T*>(table_.find(number)); }
  bool insert(std::uint64_t number, T* value) { return table_.insert(number, value); }
  T* erase(std::uint64_t number) noexcept { return static_cast<T*>(table_.erase(number)); }
  void clear() noexcept { table_.clear(); }
  T* next(std::size_t& from) const noexcept { return static_cast<T*>(table_.next(from)); }

 private:
  pointer_table table_;
};

}  // namespace pulsar::detail
