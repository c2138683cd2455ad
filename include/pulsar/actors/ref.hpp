// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// References to actors.
///
///     pulsar::actor_ref<ledger> bank = co_await pulsar::spawn<ledger>();
///     pulsar::actor_ref<> anyone = bank;               // its type forgotten
///     pulsar::named_actor("bank");                     // whoever has that name
///
/// A reference is cheap to copy, may go to any thread and, as an argument or result of a command, to
/// any process; it keeps nobody alive: sending to an actor that has ended fails with
/// `errc::actor_gone`.

#include <pulsar/actors/detail/cell.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace pulsar {

template <class A = void>
class actor_ref;

class encoder;
class decoder;

namespace detail {
struct ref_access;
// How references travel; in ref_codec.hpp.
template <class A>
struct ref_codec;
}  // namespace detail

/// Refers to an actor of unknown type, or to none.
template <>
class actor_ref<void> {
 public:
  actor_ref() noexcept = default;

  /// False if it refers to none.
  explicit operator bool() const noexcept { return static_cast<bool>(cell_); }
  /// Unique in the program; 0 if it refers to none.
  std::uint64_t id() const noexcept { return cell_ ? cell_->id : 0; }
  /// The actor's name; empty if it refers to none.
  std::string name() const { return cell_ ? cell_->name : std::string(); }

  /// Do they refer to the same actor?
  friend bool operator==(const actor_ref& a, const actor_ref& b) noexcept {
    return a.id() == b.id();
  }

 private:
  friend struct detail::ref_access;
  template <class A>
  friend class actor_ref;
  explicit actor_ref(detail::cell_pointer cell) noexcept : cell_(std::move(cell)) {}

  detail::cell_pointer cell_;
};

/// Refers to an actor of type `A`, or to none: its commands are checked when compiled.
template <class A>
class actor_ref : public actor_ref<> {
 public:
  actor_ref() noexcept = default;

  friend void pulsar_encode(encoder& out, const actor_ref& ref) {
    detail::ref_codec<A>::encode(out, ref);
  }
  friend bool pulsar_decode(decoder& in, actor_ref& ref) {
    return detail::ref_codec<A>::decode(in, ref);
  }

 private:
  friend struct detail::ref_access;
  using actor_ref<>::actor_ref;
};

/// Refers to whoever has the name when it is used.
class named_actor {
 public:
  explicit named_actor(std::string name) : name_(std::move(name)) {}
  const std::string& name() const noexcept { return name_; }

 private:
  std::string name_;
};

namespace detail {

struct ref_access {
  template <class A = void>
  static actor_ref<A> make(cell_pointer cell) noexcept {
    return actor_ref<A>(std::move(cell));
  }
  static actor_cell* cell(const actor_ref<>& ref) noexcept { return ref.cell_.get(); }
  static const cell_pointer& pointer(const actor_ref<>& ref) noexcept { return ref.cell_; }
};

}  // namespace detail
}  // namespace pulsar

template <class A>
struct std::hash<pulsar::actor_ref<A>> {
  std::size_t operator()(const pulsar::actor_ref<A>& ref) const noexcept {
    return std::hash<std::uint64_t>()(ref.id());
  }
};
