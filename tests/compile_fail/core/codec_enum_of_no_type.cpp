// expect: not every one fits into an enum without an underlying type
// expect: enum name : int, or enum class
// expect: shade
// max-lines: 21
#include <pulsar/core/codec.hpp>

enum shade { dark, light };

void f(std::span<const std::byte> data) { pulsar::decode<shade>(data); }
