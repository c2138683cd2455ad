// SPDX-License-Identifier: BSD-3-Clause
//
// Runs a fuzz target over a corpus without libFuzzer: once over each file named, or in each folder
// named, and over each prefix of it, for a stream may break off anywhere.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

/// Inputs up to this size are cut at every byte, longer ones at this many places.
constexpr std::size_t most_prefixes = 512;

/// Hands over a copy of exact size: reading one byte too many is seen by the address sanitizer.
void run_prefix(const std::string& text, std::size_t size) {
  const auto copy = std::make_unique<std::uint8_t[]>(size);
  std::copy_n(text.begin(), size, copy.get());
  LLVMFuzzerTestOneInput(copy.get(), size);
}

void replay(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::size_t step = text.size() / most_prefixes + 1;
  for (std::size_t size = 0; size < text.size(); size += step) run_prefix(text, size);
  run_prefix(text, text.size());
}

}  // namespace

int main(int argc, char** argv) try {
  int inputs = 0;
  for (int i = 1; i < argc; ++i) {
    const std::filesystem::path path = argv[i];
    if (!std::filesystem::is_directory(path)) {
      replay(path);
      ++inputs;
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      replay(entry.path());
      ++inputs;
    }
  }
  std::printf("replayed %d inputs\n", inputs);
  if (inputs == 0) {
    std::fputs("no input found: name the files or folders of a corpus\n", stderr);
    return 1;
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
