// SPDX-License-Identifier: BSD-3-Clause
// A program of several processes for the tests of keys.

#include <pulsar/actors/image.hpp>
#include <pulsar/core/child.hpp>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

int twice(int n) { return 2 * n; }
int thrice(int n) { return 3 * n; }

template <class T>
struct factory {
  static int size() { return static_cast<int>(sizeof(T)); }
};
struct hidden {
  char bytes[77];
};

int print_failure(const pulsar::error& e) {
  std::printf("%s\n", e.what());
  return 1;
}

// Calls what the key names, here: `arguments` are object, offset and the number.
int call(char** arguments) try {
  const pulsar::image::function_key key{std::strtoull(arguments[0], nullptr, 10),
                                        std::strtoull(arguments[1], nullptr, 10)};
  if (std::string_view(arguments[2]) == "size") {
    std::printf("%d\n", pulsar::image::resolve<int()>(key)());
  } else {
    std::printf("%d\n", pulsar::image::resolve<int(int)>(key)(std::atoi(arguments[2])));
  }
  return 0;
} catch (const pulsar::error& e) {
  return print_failure(e);
}

// Lets a second process of this program call its functions.
int round_trip() try {
  const auto ask = [](pulsar::image::function_key key, const char* argument) {
    const std::vector<std::string> arguments{"probe", "call", std::to_string(key.object),
                                             std::to_string(key.offset), argument};
    const std::string executable = pulsar::image::executable();
    const auto status =
        pulsar::spawn_child({.executable = executable, .arguments = arguments}).wait();
    if (!status.success()) std::exit(1);
  };
  ask(pulsar::image::key_of<&twice>(), "21");
  ask(pulsar::image::key_of<&thrice>(), "5");
  ask(pulsar::image::key_of<&factory<hidden>::size>(), "size");
  return 0;
} catch (const pulsar::error& e) {
  return print_failure(e);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "call" && argc == 5) return call(argv + 2);
  if (what == "round-trip") return round_trip();
  if (what == "key") {
    const auto key = pulsar::image::key_of<&twice>();
    std::printf("%" PRIu64 "\n%" PRIu64 "\n", key.object, key.offset);
    return 0;
  }
  if (what == "describe") {
    for (const char c : pulsar::image::describe()) std::putchar(c != '\0' ? c : '\n');
    return 0;
  }
  return 64;
}
