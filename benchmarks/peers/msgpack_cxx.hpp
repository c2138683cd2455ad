// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The same values through msgpack-cxx (Debian: libmsgpack-cxx-dev), the usual MessagePack of C++.
///
/// Only where `BENCH_HAS_MSGPACK_CXX` is 1: the benchmarks do without it.

#if __has_include(<msgpack.hpp>)
#define BENCH_HAS_MSGPACK_CXX 1
#else
#define BENCH_HAS_MSGPACK_CXX 0
#endif

#if BENCH_HAS_MSGPACK_CXX

// It would want Boost otherwise.
#ifndef MSGPACK_NO_BOOST
#define MSGPACK_NO_BOOST
#endif
#include <msgpack.hpp>

#include "../support/harness.hpp"

#include <cstdint>
#include <string>

namespace bench {

/// Encodes `value` into a buffer that is used again.
template <class T>
kernel msgpack_cxx_encode(T value) {
  return [value](std::uint64_t times) mutable {
    msgpack::sbuffer out;
    return timed([&] {
      for (; times != 0; --times) {
        do_not_optimize(value);
        out.clear();
        msgpack::pack(out, value);
        do_not_optimize(*out.data());
      }
    });
  };
}

/// Decodes what `value` is encoded as into an object that is used again.
template <class T>
kernel msgpack_cxx_decode(const T& value) {
  msgpack::sbuffer encoded;
  msgpack::pack(encoded, value);
  return [bytes = std::string(encoded.data(), encoded.size())](std::uint64_t times) mutable {
    T out;
    return timed([&] {
      for (; times != 0; --times) {
        do_not_optimize(bytes);
        const auto handle = msgpack::unpack(bytes.data(), bytes.size());
        handle.get().convert(out);
        do_not_optimize(out);
      }
    });
  };
}

}  // namespace bench

#endif
