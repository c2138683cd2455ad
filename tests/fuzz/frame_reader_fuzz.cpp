// SPDX-License-Identifier: BSD-3-Clause
//
// Frames of a line between processes: whatever arrives, and however it is cut, the reader gives the
// same messages as a plain reading of the same bytes, or refuses them at the same place.

#include <pulsar/actors/detail/link.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using pulsar::buffer;
using pulsar::detail::frame_head;
using pulsar::detail::frame_reader;

namespace {

struct outcome {
  std::vector<std::string> messages;
  bool refused = false;
  bool operator==(const outcome&) const = default;
};

std::string describe(int kind, std::uint64_t id, std::string_view payload) {
  return std::to_string(kind) + ":" + std::to_string(id) + ":" + std::string(payload);
}

// The rules once more, without a thought for speed. An input is too small for the limits on sums.
outcome read_plainly(std::string_view in) {
  outcome result;
  std::map<std::pair<int, std::uint64_t>, std::string> begun;
  while (in.size() >= sizeof(frame_head)) {
    frame_head head;
    std::memcpy(&head, in.data(), sizeof(head));
    if (head.size > 64 * 1024 || head.kind < 1 || head.kind > 3 || head.more > 1 ||
        head.reserved != 0 || (head.more == 1 && head.size == 0)) {
      result.refused = true;
      break;
    }
    if (in.size() - sizeof(head) < head.size) break;
    const std::pair<int, std::uint64_t> key(head.kind, head.id);
    if (!begun.contains(key) && begun.size() == 1024 && head.more == 1) {
      result.refused = true;
      break;
    }
    std::string& text = begun[key];
    text += in.substr(sizeof(head), head.size);
    in.remove_prefix(sizeof(head) + head.size);
    if (head.more == 1) continue;
    result.messages.push_back(describe(head.kind, head.id, text));
    begun.erase(key);
  }
  return result;
}

// As a link does, `step` bytes at a time.
outcome read(std::span<const std::byte> all, std::size_t step) {
  outcome result;
  frame_reader reader;
  buffer in;
  try {
    while (!all.empty()) {
      const auto n = std::min(step, all.size());
      // What a link makes room for must never follow a claim that was not checked.
      if (reader.missing(in) > sizeof(frame_head) + 64 * 1024) std::abort();
      in.append(all.first(n));
      all = all.subspan(n);
      while (const auto m = reader.next(in)) {
        const std::string_view payload(reinterpret_cast<const char*>(m->payload.data()),
                                       m->payload.size());
        result.messages.push_back(describe(static_cast<int>(m->kind), m->id, payload));
      }
    }
  } catch (const pulsar::error& e) {
    if (e.code() != pulsar::errc::malformed && e.code() != pulsar::errc::too_large) std::abort();
    result.refused = true;
  }
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto bytes = std::as_bytes(std::span(data, size));
  const outcome expected = read_plainly(text);
  const std::size_t odd = size == 0 ? 1 : 1 + data[size - 1] % 37;
  for (const std::size_t step : {size == 0 ? std::size_t{1} : size, odd}) {
    if (read(bytes, step) != expected) std::abort();
  }
  return 0;
}
