// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// References to actors in messages: an array of number and name.
///
///     class teller : public pulsar::actor<teller> {
///      public:
///       pulsar::future<long> pay(pulsar::actor_ref<ledger> bank, std::string account) {
///         co_return co_await send(bank, "deposit"_cmd, account, 100);   // to it directly
///       }
///       using commands = pulsar::commands<&teller::pay>;
///     };
///
/// A reference means the same actor in every process of the program. The type is not checked when it
/// arrives: a command that the actor does not have is `errc::unknown_command`.

#include <pulsar/actors/detail/peers.hpp>
#include <pulsar/actors/ref.hpp>
#include <pulsar/core/codec.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pulsar {

namespace detail {

template <class A>
struct ref_codec {
  static void encode(encoder& out, const actor_ref<>& ref) {
    const auto* cell = ref_access::cell(ref);
    out.write_array(2);
    out.write(ref.id());
    out.write(cell == nullptr ? std::string_view() : std::string_view(cell->name));
  }
  static bool decode(decoder& in, actor_ref<A>& ref) {
    std::size_t size = 0;
    std::uint64_t id = 0;
    std::string name;
    if (!in.read_array(size) || (size != 2 && !in.fail("an array of number and name"))) return false;
    if (!in.read(id) || !in.read(name)) return false;
    ref = id == 0 ? actor_ref<A>() : ref_access::make<A>(cell_of(id, std::move(name)));
    return true;
  }
};

}  // namespace detail

inline void pulsar_encode(encoder& out, const actor_ref<>& ref) {
  detail::ref_codec<void>::encode(out, ref);
}
inline bool pulsar_decode(decoder& in, actor_ref<>& ref) {
  return detail::ref_codec<void>::decode(in, ref);
}

}  // namespace pulsar
