// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The image of this program: how two processes of it name a function to each other, how they find
/// out that they are not the same program after all, and how it is started again.
///
///     namespace { int twice(int n) { return 2 * n; } }
///
///     auto key = pulsar::image::key_of<&twice>();        // in one process: two numbers
///     auto run = pulsar::image::resolve<int(int)>(key);  // in another: &twice there
///
/// A name will not do, because functions of unnamed namespaces share theirs; nor will an address,
/// because programs are loaded at random places. So a key says which loaded object (by its
/// build-id, or size and time of its file) and where in it. Only functions that the program itself
/// registered are found, each under its own signature. Any thread may call what is declared here; a
/// library that registers functions must not be unloaded.

#include <pulsar/actors/detail/image.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>

namespace pulsar::image {

/// Names a registered function in every process of the same program. A plain value for the wire.
struct function_key {
  /// Which loaded object: a hash of its version.
  std::uint64_t object = 0;
  /// Where in it, counted from where it was loaded.
  std::uint64_t offset = 0;

  bool operator==(const function_key&) const noexcept = default;
};

/// Lets `function` be named by other processes of this program; twice does no harm.
///
/// Must happen in every process before messages arrive, so best while static variables are
/// initialised: `key_of<&f>()` sees to that by itself.
template <class R, class... Args>
void register_function(R (*function)(Args...)) {
  detail::image_table::instance().add(reinterpret_cast<void*>(function), typeid(R(Args...)));
}

/// True once `Function` is registered, which happens before `main` in every program that uses it.
template <auto Function>
inline const bool registered = (register_function(Function), true);

/// The key of a registered function.
///
/// Throws `errc::not_encodable` if it was not registered.
template <class R, class... Args>
function_key key_of(R (*function)(Args...)) {
  const auto place = detail::image_table::instance().place_of(reinterpret_cast<void*>(function),
                                                              typeid(R(Args...)));
  return {place.object, place.offset};
}

/// The key of `Function`. A program that contains this call registers it before `main`, in each of
/// its processes, whether or not they come by here.
template <auto Function>
function_key key_of() {
  // Read, not just named: the variable would not come into being otherwise. It is still false only
  // when another static variable's initialisation is what asks.
  if (!registered<Function>) register_function(Function);
  return key_of(Function);
}

/// The function that `key` names in this process; `Signature` is its type, as in `int(int)`.
///
/// Throws `errc::incompatible` if its object is not loaded here in that version, `errc::malformed`
/// if no function with this signature is registered there.
template <class Signature>
Signature* resolve(const function_key& key) {
  static_assert(std::is_function_v<Signature>,
                "resolve takes the type of the function, as in resolve<int(int)>(key)");
  return reinterpret_cast<Signature*>(
      detail::image_table::instance().function_at({key.object, key.offset}, typeid(Signature)));
}

/// The program itself, then every library that holds a registered function: of each its path and
/// its version, "build-id 8c73..." or "size 81920, changed at 1795243200.5", with a zero byte behind
/// either; no version if nothing is known. A plain value for the hand-shake.
inline std::string describe() { return detail::image_table::instance().describe(); }

/// Why two processes cannot exchange keys, as a sentence that says what to do; empty if they can.
///
/// `ours` and `theirs` are what `describe` returned in each. A library that only one of them has
/// loaded is no obstacle: a key into it is refused by `resolve` where it is missing.
inline std::string difference(std::string_view ours, std::string_view theirs) {
  if (ours.empty() || theirs.empty()) return "the other process does not say which program it is";
  const auto compare = [](const detail::described_object& a, const detail::described_object& b) {
    std::string name(a.name);
    if (a.version.empty() || b.version.empty()) {
      return "'" + name +
             "' has neither a build-id nor a file to compare: link it with -Wl,--build-id";
    }
    if (a.version == b.version) return std::string();
    return "binary changed on disk: '" + name + "' was " + std::string(a.version) +
           " and is now " + std::string(b.version) + "; send USR2 to the arbiter to upgrade";
  };
  // The program itself comes first and may have been moved meanwhile.
  auto our = detail::take_object(ours);
  std::string found = compare(our, detail::take_object(theirs));
  while (found.empty() && !ours.empty()) {
    our = detail::take_object(ours);
    for (auto rest = theirs; found.empty() && !rest.empty();) {
      const auto their = detail::take_object(rest);
      if (our.name == their.name) found = compare(our, their);
    }
  }
  return found;
}

/// The file this program was started from, for people: it may have been moved or replaced since.
inline std::string file() { return detail::without_deleted(detail::link_target("/proc/self/exe")); }

/// What to execute in order to start this very program again.
///
/// The kernel's own link: right even when the file has been replaced or removed. Under valgrind,
/// whose own program that link is, the file.
inline std::string executable() {
  // Valgrind answers the first question in the program's stead and does not know the second.
  const std::string link = "/proc/self/exe";
  const std::string claimed = detail::link_target(link.c_str());
  return claimed == detail::link_target("/proc/thread-self/exe") ? link : claimed;
}

}  // namespace pulsar::image
