// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Objects that count their references. Not std::shared_ptr: it costs every program that includes
// pulsar sixty functions a type to compile.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pulsar::detail {

/// Counts as one reference to a `T`, which counts them by `take` and `drop`.
template <class T>
class counted_pointer {
 public:
  counted_pointer() noexcept = default;
  counted_pointer(std::nullptr_t) noexcept {}
  /// Takes over a reference.
  explicit counted_pointer(T* object) noexcept : object_(object) {}
  counted_pointer(const counted_pointer& other) noexcept : object_(other.object_) {
    if (object_ != nullptr) object_->take();
  }
  counted_pointer(counted_pointer&& other) noexcept : object_(other.object_) {
    other.object_ = nullptr;
  }
  counted_pointer& operator=(counted_pointer other) noexcept {
    T* const before = object_;
    object_ = other.object_;
    other.object_ = before;
    return *this;
  }
  ~counted_pointer() {
    if (object_ != nullptr) object_->drop();
  }

  T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  bool operator==(std::nullptr_t) const noexcept { return object_ == nullptr; }

 private:
  T* object_ = nullptr;
};

/// One more reference to an object that somebody has a reference to.
template <class T>
counted_pointer<T> share(T& object) noexcept {
  object.take();
  return counted_pointer<T>(&object);
}

/// Goes with its last reference, in whatever thread that is dropped.
class counted {
 public:
  counted() noexcept = default;
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;

  void take() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void drop() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

 protected:
  virtual ~counted() = default;

 private:
  std::atomic<std::uint32_t> references_{1};
};

/// The same for what one thread refers to.
class counted_here {
 public:
  counted_here() noexcept = default;
  counted_here(const counted_here&) = delete;
  counted_here& operator=(const counted_here&) = delete;

  void take() noexcept { ++references_; }
  void drop() noexcept {
    if (--references_ == 0) delete this;
  }

 protected:
  virtual ~counted_here() = default;

 private:
  std::uint32_t references_ = 1;
};

}  // namespace pulsar::detail
