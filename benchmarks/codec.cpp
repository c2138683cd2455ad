// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// Encoding and decoding one small struct, and a list of a hundred. Beside it memcpy of the encoded
/// bytes, which no codec can beat, and msgpack-cxx where it is installed.

#include <pulsar/core/buffer.hpp>
#include <pulsar/core/codec.hpp>

#include "peers/msgpack_cxx.hpp"
#include "support/harness.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct order {
  std::uint64_t id = 0;
  std::string symbol;
  double price = 0;
  std::uint32_t quantity = 0;
  bool buy = false;
  std::vector<std::int32_t> tags;

#if BENCH_HAS_MSGPACK_CXX
  MSGPACK_DEFINE_ARRAY(id, symbol, price, quantity, buy, tags)
#endif
};

order one_order() { return {1'000'000'007, "PLSR", 101.25, 1'200, true, {1, -2, 70'000}}; }

std::vector<order> hundred_orders() {
  std::vector<order> all(100, one_order());
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].id += i;
    all[i].symbol += std::to_string(i);
  }
  return all;
}

template <class T>
bench::kernel encode(T value) {
  return [value](std::uint64_t times) mutable {
    pulsar::buffer out;
    return bench::timed([&] {
      for (; times != 0; --times) {
        bench::do_not_optimize(value);
        out.consume(out.size());
        pulsar::encode(out, value);
        bench::do_not_optimize(*out.data());
      }
    });
  };
}

template <class T>
bench::kernel decode(const T& value) {
  const auto encoded = pulsar::encode(value);
  return [bytes =
              std::vector<std::byte>(encoded.begin(), encoded.end())](std::uint64_t times) mutable {
    T out{};
    return bench::timed([&] {
      for (; times != 0; --times) {
        bench::do_not_optimize(bytes);
        if (const auto failure = pulsar::try_decode(bytes, out)) throw failure.to_error();
        bench::do_not_optimize(out);
      }
    });
  };
}

template <class T>
bench::kernel copy(const T& value) {
  const auto encoded = pulsar::encode(value);
  return [bytes =
              std::vector<std::byte>(encoded.begin(), encoded.end())](std::uint64_t times) mutable {
    std::vector<std::byte> out(bytes.size());
    return bench::timed([&] {
      for (; times != 0; --times) {
        bench::do_not_optimize(bytes);
        std::memcpy(out.data(), bytes.data(), bytes.size());
        bench::do_not_optimize(*out.data());
      }
    });
  };
}

template <class T>
void measure(bench::suite& suite, const std::string& what, const T& value, std::uint64_t counted) {
  std::vector<bench::subject> encoders{
      {"encode:" + what, [&] { return encode(value); }, {}, counted}};
  std::vector<bench::subject> decoders{
      {"decode:" + what, [&] { return decode(value); }, {}, counted}};
#if BENCH_HAS_MSGPACK_CXX
  encoders.push_back(
      {"encode:" + what + ":msgpack-cxx", [&] { return bench::msgpack_cxx_encode(value); }, {}, 0});
  decoders.push_back(
      {"decode:" + what + ":msgpack-cxx", [&] { return bench::msgpack_cxx_decode(value); }, {}, 0});
#endif
  const bench::subject yardstick{"memcpy", [&] { return copy(value); }, {}};
  suite.compare(yardstick, encoders);
  suite.compare(yardstick, decoders);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](bench::suite& suite) {
    const bench::pinned here(0);
    measure(suite, "struct", one_order(), 24000);
    measure(suite, "list_of_100", hundred_orders(), 400);
  });
}
