// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// A string literal as a template argument: `template <fixed_string Name>`.

#include <cstddef>
#include <string_view>

namespace pulsar {

/// Holds the characters of a literal, without the final zero in `view()`.
template <std::size_t N>
struct fixed_string {
  char data[N]{};

  consteval fixed_string(const char (&text)[N]) {
    for (std::size_t i = 0; i < N; ++i) data[i] = text[i];
  }

  /// The characters.
  constexpr std::string_view view() const noexcept { return {data, N - 1}; }

  template <std::size_t M>
  constexpr bool operator==(const fixed_string<M>& other) const noexcept {
    return view() == other.view();
  }
};

}  // namespace pulsar
