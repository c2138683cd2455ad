// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The machinery of <pulsar/actors/image.hpp>: which loaded object an address belongs to, which
// version of it that is, and the table of the functions that the wire may name.

#include <pulsar/core/error.hpp>

#include <elf.h>
#include <limits.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

namespace pulsar::detail {

// What the link at `path` names; empty if it cannot be read.
inline std::string link_target(const char* path) {
  std::array<char, PATH_MAX> target;
  const auto size = ::readlink(path, target.data(), target.size());
  return size <= 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
}

// FNV-1a: the same in every process, unlike std::hash.
inline std::uint64_t stable_hash(std::string_view text) noexcept {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

// -- loaded objects -------------------------------------------------------------------------------

struct image_object {
  std::string name{};
  std::string version{};   // empty: it cannot be told from another version
  std::uint64_t id = 0;    // stable_hash of what `version` says
  std::uintptr_t base = 0;
  std::uintptr_t first = 0;  // the loader keeps all from here
  std::uintptr_t last = 0;   // to here for it
  const image_object* next = nullptr;

  bool holds(std::uintptr_t address) const noexcept { return first <= address && address < last; }
};

// Numbers alone: a library that is unloaded takes its headers with it.
inline void find_place(const dl_phdr_info& info, image_object& object) noexcept {
  object.base = info.dlpi_addr;
  for (std::size_t i = 0; i < info.dlpi_phnum; ++i) {
    const auto& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const std::uintptr_t begin = object.base + segment.p_vaddr;
    if (object.last == 0 || begin < object.first) object.first = begin;
    if (begin + segment.p_memsz > object.last) object.last = begin + segment.p_memsz;
  }
}

// The build-id in one PT_NOTE segment as hexadecimal digits, or nothing. Segments whose alignment
// is 8 pad names and descriptors to 8, all others to 4.
inline std::string build_id_in(const char* note, std::size_t size, std::size_t alignment) {
  const std::size_t pad = alignment == 8 ? 8 : 4;
  const auto padded = [pad](std::size_t n) { return (n + pad - 1) / pad * pad; };
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    std::memcpy(&header, note, sizeof header);
    const std::size_t description = padded(sizeof header + header.n_namesz);
    const std::size_t whole = padded(description + header.n_descsz);
    if (description > size || header.n_descsz > size - description) return {};
    if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 &&
        std::memcmp(note + sizeof header, "GNU", 4) == 0) {
      std::string digits;
      for (std::size_t i = 0; i < header.n_descsz; ++i) {
        constexpr std::string_view hexadecimal = "0123456789abcdef";
        const auto byte = static_cast<unsigned char>(note[description + i]);
        digits += hexadecimal[byte >> 4];
        digits += hexadecimal[byte & 15];
      }
      return digits;
    }
    if (whole >= size) return {};
    note += whole;
    size -= whole;
  }
  return {};
}

// Size and time of the file of an object without build-id; empty if it has no file any more.
inline std::string file_version(const std::string& name, bool main) {
  struct stat file {};
  // A program that was replaced since it started is found by its own link alone.
  if (::stat(name.c_str(), &file) != 0 && !(main && ::stat("/proc/self/exe", &file) == 0)) {
    return {};
  }
  return "size " + std::to_string(file.st_size) + ", changed at " +
         std::to_string(file.st_mtim.tv_sec) + "." + std::to_string(file.st_mtim.tv_nsec);
}

// The path of a running program's file without the mark that Linux adds once it is replaced.
inline std::string without_deleted(std::string path) {
  constexpr std::string_view mark = " (deleted)";
  if (path.ends_with(mark)) path.resize(path.size() - mark.size());
  return path;
}

inline image_object describe_object(const dl_phdr_info& info, bool main) {
  image_object object;
  object.name = main ? without_deleted(link_target("/proc/self/exe")) : info.dlpi_name;
  find_place(info, object);
  std::string build_id;
  for (std::size_t i = 0; i < info.dlpi_phnum && build_id.empty(); ++i) {
    const auto& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    build_id = build_id_in(reinterpret_cast<const char*>(info.dlpi_addr + segment.p_vaddr),
                           segment.p_memsz, segment.p_align);
  }
  object.version = build_id.empty() ? file_version(object.name, main) : "build-id " + build_id;
  // Two libraries of one size and time must not share an id, whatever directory they are in. The
  // program itself keeps its id when its file is renamed.
  const bool by_name = build_id.empty() && !main;
  const auto file = object.name.substr(object.name.find_last_of('/') + 1);
  object.id = stable_hash(by_name ? file + ": " + object.version : object.version);
  return object;
}

// The main program if `address` is 0, else the object that holds it; empty if none does.
inline image_object find_object(std::uintptr_t address) {
  struct search {
    std::uintptr_t address;
    bool main = true;  // the C library lists the program itself first
    image_object found{};
  } wanted{address};
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& search_for = *static_cast<search*>(data);
        const bool main = std::exchange(search_for.main, false);
        image_object place;
        find_place(*info, place);
        if (search_for.address != 0 && !place.holds(search_for.address)) return 0;
        search_for.found = describe_object(*info, main);
        return 1;
      },
      &wanted);
  return std::move(wanted.found);
}

// What a description says of one object.
struct described_object {
  std::string_view name;
  std::string_view version;
};

inline void add_description(const image_object& object, std::string& to) {
  to.append(object.name).append(1, '\0').append(object.version).append(1, '\0');
}

// Takes the first word away, and the zero byte behind it.
inline std::string_view take_word(std::string_view& text) noexcept {
  const std::string_view word = text.substr(0, text.find('\0'));
  text.remove_prefix(word.size() + (word.size() < text.size() ? 1 : 0));
  return word;
}

inline described_object take_object(std::string_view& description) noexcept {
  const std::string_view name = take_word(description);
  return {name, take_word(description)};
}

// -- the table ------------------------------------------------------------------------------------

struct image_place {
  std::uint64_t object = 0;
  std::uint64_t offset = 0;

  bool operator==(const image_place&) const noexcept = default;
};

// Filled while static variables are initialised, before `main` and whenever a library is loaded, so
// that an object's version is noted before its file can be replaced.
class image_table {
 public:
  static image_table& instance() {
    static auto* const table = new image_table;  // outlives every static object that asks it
    return *table;
  }

  void add(void* function, const std::type_info& signature) {
    const std::lock_guard lock(mutex_);
    const auto address = reinterpret_cast<std::uintptr_t>(function);
    const image_object* object = holder_of(address);
    if (object == nullptr) {
      image_object found = find_object(address);
      if (found.last == 0) return;  // made at run time: no other process can have it
      found.next = objects_;
      objects_ = object = new image_object(std::move(found));
    }
    const image_place place{object->id, address - object->base};
    if (find(place, signature) != nullptr) return;
    // Several at one place: linkers may fold functions of one body, whatever their signatures.
    functions_ = new entry{place, function, &signature, functions_};
  }

  image_place place_of(void* function, const std::type_info& signature) {
    const std::lock_guard lock(mutex_);
    const auto address = reinterpret_cast<std::uintptr_t>(function);
    if (const image_object* object = holder_of(address)) {
      const image_place place{object->id, address - object->base};
      if (find(place, signature) != nullptr) return place;
    }
    throw error(errc::not_encodable,
                "a function that was not registered cannot be named to another process");
  }

  void* function_at(const image_place& place, const std::type_info& signature) {
    const std::lock_guard lock(mutex_);
    if (const entry* found = find(place, signature)) return found->function;
    for (const entry* e = functions_; e != nullptr; e = e->next) {
      if (e->place != place) continue;
      throw error(errc::malformed, "a message names a function of another signature");
    }
    for (const image_object* o = objects_; o != nullptr; o = o->next) {
      if (o->id != place.object) continue;
      throw error(errc::malformed, "a message names offset " + std::to_string(place.offset) +
                                       " of '" + o->name +
                                       "', where no registered function begins");
    }
    throw error(errc::incompatible,
                "a message names a function of a program or library that is not loaded here, or in "
                "another version");
  }

  // The program itself, then every library that holds a registered function.
  std::string describe() {
    const std::lock_guard lock(mutex_);
    std::string result;
    const image_object main = find_object(0);
    add_description(main, result);
    for (const image_object* o = objects_; o != nullptr; o = o->next) {
      if (o->first != main.first) add_description(*o, result);
    }
    return result;
  }

 private:
  struct entry {
    image_place place;
    void* function;
    const std::type_info* signature;
    const entry* next;
  };

  const entry* find(const image_place& place, const std::type_info& signature) const {
    const entry* e = functions_;
    while (e != nullptr && !(e->place == place && *e->signature == signature)) e = e->next;
    return e;
  }

  const image_object* holder_of(std::uintptr_t address) const noexcept {
    const image_object* o = objects_;
    while (o != nullptr && !o->holds(address)) o = o->next;
    return o;
  }

  std::mutex mutex_;
  const image_object* objects_ = nullptr;  // as long as the program, like the functions
  const entry* functions_ = nullptr;
};

}  // namespace pulsar::detail
