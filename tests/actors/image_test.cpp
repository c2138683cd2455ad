// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/actors/image.hpp>
#include <pulsar/core/child.hpp>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <vector>

namespace image = pulsar::image;
using namespace std::string_view_literals;

namespace {

int plain(int n) { return n + 1; }
int other(int n) { return n + 2; }
int never_registered(int n) { return n + 3; }
long by_value(int n) noexcept { return n + 4; }

// Asked for while static variables are initialised, in whatever order that happens.
const image::function_key early = image::key_of<&plain>();

template <class T>
struct maker {
  static std::size_t make() { return sizeof(T); }
};
struct one_byte {
  char c;
};
struct two_bytes {
  char c[2];
};

const std::string probe = std::string(PULSAR_TEST_PROGRAMS_DIR) + "/image_probe";

struct answer {
  int code;
  std::vector<std::string> lines;
};

answer ask(const std::string& executable, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "probe");
  auto [mine, theirs] = pulsar::socket_pair(SOCK_STREAM);
  auto child = pulsar::spawn_child(
      {.executable = executable, .arguments = arguments, .standard_output = theirs.get()});
  theirs.reset();
  std::string text;
  char chunk[4096];
  for (ssize_t n = 0; (n = ::read(mine.get(), chunk, sizeof chunk)) > 0;) {
    text.append(chunk, static_cast<std::size_t>(n));
  }
  answer result{child.wait().code, {}};
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.lines.push_back(line);
  return result;
}

// A copy of the probe whose build-id is another one, or none; removed at the end.
class changed_probe {
 public:
  enum class build_id { other, none };

  explicit changed_probe(build_id wanted) {
    std::ifstream original(probe, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(original), {}};
    const auto note = bytes.find(std::string("\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0", 16));
    if (note != std::string::npos) {
      if (wanted == build_id::none) bytes[note + 8] = 99;
      if (wanted == build_id::other) bytes[note + 16] ^= 1;
    }
    found_ = note != std::string::npos;
    path_ = std::filesystem::temp_directory_path() /
            ("pulsar_image_probe_" + std::to_string(::getpid()));
    std::ofstream(path_, std::ios::binary) << bytes;
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
  }
  changed_probe(const changed_probe&) = delete;
  changed_probe& operator=(const changed_probe&) = delete;
  ~changed_probe() { std::filesystem::remove(path_); }

  bool original_has_build_id() const { return found_; }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
  bool found_ = false;
};

std::error_code failure_of(auto&& action) {
  try {
    action();
  } catch (const pulsar::error& e) {
    return e.code();
  }
  return {};
}

}  // namespace

TEST_SUITE("image") {
  TEST_CASE("a key leads back to its function") {
    const auto key = image::key_of<&plain>();
    CHECK(key == early);
    CHECK((image::resolve<int(int)>(key) == &plain));
    CHECK(image::key_of(&plain) == key);
    CHECK(image::resolve<int(int)>(image::key_of<&other>())(40) == 42);
    CHECK(image::resolve<long(int)>(image::key_of<&by_value>())(38) == 42);
  }

  TEST_CASE("functions of unnamed types have keys of their own") {
    const auto first = image::key_of<&maker<one_byte>::make>();
    const auto second = image::key_of<&maker<two_bytes>::make>();
    CHECK(first != second);
    CHECK(first.object == second.object);
    CHECK(image::resolve<std::size_t()>(first)() == 1);
    CHECK(image::resolve<std::size_t()>(second)() == 2);
  }

  TEST_CASE("a function that was not registered has no key") {
    CHECK(failure_of([] { image::key_of(&never_registered); }) == pulsar::errc::not_encodable);
  }

  TEST_CASE("a key of a function that was not registered is refused") {
    const auto key = image::key_of<&plain>();
    const auto distance = reinterpret_cast<std::uintptr_t>(&never_registered) -
                          reinterpret_cast<std::uintptr_t>(&plain);
    CHECK(failure_of([&] {
            image::resolve<int(int)>({key.object, key.offset + distance});
          }) == pulsar::errc::malformed);
    CHECK(failure_of([&] {
            image::resolve<int(int)>({key.object, key.offset + 1});
          }) == pulsar::errc::malformed);
    CHECK(failure_of([&] {
            image::resolve<int(int)>({key.object, 0});
          }) == pulsar::errc::malformed);
    CHECK(failure_of([&] {
            image::resolve<int(int)>({key.object + 1, key.offset});
          }) == pulsar::errc::incompatible);
  }

  TEST_CASE("a function is only found under its own signature") {
    const auto key = image::key_of<&plain>();
    CHECK(failure_of([&] { image::resolve<long(int)>(key); }) == pulsar::errc::malformed);
    CHECK(failure_of([&] { image::resolve<int(long)>(key); }) == pulsar::errc::malformed);
  }

  TEST_CASE("registering twice, or what no loaded object holds, does no harm") {
    image::register_function(&plain);
    CHECK(image::key_of(&plain) == early);
    const auto nowhere = reinterpret_cast<int (*)(int)>(std::uintptr_t{16});
    image::register_function(nowhere);
    CHECK(failure_of([&] { image::key_of(nowhere); }) == pulsar::errc::not_encodable);
  }

  TEST_CASE("another process of the same program resolves the keys of this one") {
    const auto key = ask(probe, {"key"});
    REQUIRE(key.lines.size() == 2);
    CHECK(ask(probe, {"key"}).lines == key.lines);
    const auto called = ask(probe, {"call", key.lines[0], key.lines[1], "21"});
    CHECK(called.code == 0);
    CHECK(called.lines == std::vector<std::string>{"42"});
    CHECK(ask(probe, {"round-trip"}).lines == std::vector<std::string>{"42", "15", "77"});
  }

  TEST_CASE("another process refuses what it has not registered") {
    const auto key = ask(probe, {"key"});
    REQUIRE(key.lines.size() == 2);
    const auto refused = ask(probe, {"call", key.lines[0], "64", "21"});
    CHECK(refused.code == 1);
    REQUIRE(refused.lines.size() == 1);
    CHECK(refused.lines[0].find("offset 64 of '" + probe + "'") != std::string::npos);
  }

  TEST_CASE("a program finds itself although its file is gone") {
    changed_probe copy(changed_probe::build_id::other);
    // A shell removes the file while it holds it open, and turns into the copy.
    const std::string script =
        "exec 9<'" + copy.path() + "'; rm '" + copy.path() + "'; exec /proc/self/fd/9 round-trip";
    CHECK(ask("/bin/sh", {"-c", script}).lines == std::vector<std::string>{"42", "15", "77"});
  }

  TEST_CASE("a program without build-id is known by size and time of its file") {
    changed_probe copy(changed_probe::build_id::none);
    CHECK(ask(copy.path(), {"round-trip"}).lines == std::vector<std::string>{"42", "15", "77"});
    const auto before = ask(copy.path(), {"describe"});
    REQUIRE(before.lines.size() == 2);
    CHECK(before.lines[0] == copy.path());
    struct stat file {};
    REQUIRE(::stat(copy.path().c_str(), &file) == 0);
    CHECK(before.lines[1].find("size " + std::to_string(file.st_size) + ", changed at " +
                               std::to_string(file.st_mtim.tv_sec)) == 0);
    std::filesystem::last_write_time(copy.path(), std::filesystem::file_time_type{});
    const auto after = ask(copy.path(), {"describe"});
    REQUIRE(after.lines.size() == 2);
    CHECK(after.lines[1] != before.lines[1]);
  }

  TEST_CASE("two builds of one program do not understand each other's keys, and know it") {
    changed_probe copy(changed_probe::build_id::other);
    const auto original = ask(probe, {"describe"});
    const auto changed = ask(copy.path(), {"describe"});
    REQUIRE(original.lines.size() == 2);
    REQUIRE(changed.lines.size() == 2);
    if (copy.original_has_build_id()) CHECK(original.lines[1].starts_with("build-id "));
    CHECK(original.lines[1] != changed.lines[1]);

    const auto key = ask(probe, {"key"});
    REQUIRE(key.lines.size() == 2);
    const auto refused = ask(copy.path(), {"call", key.lines[0], key.lines[1], "21"});
    CHECK(refused.code == 1);
    REQUIRE(refused.lines.size() == 1);
    CHECK(refused.lines[0].find("not loaded here, or in another version") != std::string::npos);
  }

  TEST_CASE("this program describes itself first") {
    const auto objects = image::describe();
    REQUIRE_FALSE(objects.empty());
    const auto end = objects.find('\0');
    CHECK(objects.substr(0, end) == image::file());
    CHECK(objects.size() > end + 2);
    CHECK(objects[end + 1] != '\0');
    CHECK(objects.back() == '\0');
    CHECK(image::difference(objects, objects) == "");
  }

  TEST_CASE("a difference says what changed and what to do") {
    const auto ours = "/app\0build-id 1\0/lib/a.so\0build-id 2\0"sv;
    CHECK(image::difference(ours, "/app\0build-id 3\0"sv) ==
          "binary changed on disk: '/app' was build-id 1 and is now build-id 3; send USR2 to the "
          "arbiter to upgrade");
    const auto library = image::difference(ours, "/app\0build-id 1\0/lib/a.so\0x\0"sv);
    CHECK(library.find("'/lib/a.so' was build-id 2 and is now x") != std::string::npos);
    // A library that was loaded later, another order, a program that was moved: all the same.
    CHECK(image::difference(ours, "/app\0build-id 1\0"sv) == "");
    CHECK(image::difference("/app\0build-id 1\0"sv, ours) == "");
    CHECK(image::difference(ours, "/new/app\0build-id 1\0"sv) == "");
    CHECK(image::difference(ours, "/app\0build-id 1\0/b.so\0x\0/lib/a.so\0build-id 2\0"sv) == "");
    // Nothing known is never equal.
    const auto unknown = image::difference("/app\0\0"sv, "/app\0\0"sv);
    CHECK(unknown.find("-Wl,--build-id") != std::string::npos);
    CHECK(image::difference(ours, "") == "the other process does not say which program it is");
    // Nor is what was cut short.
    CHECK(image::difference(ours, "/app"sv) != "");
  }

  TEST_CASE("the program is started again through the kernel's own link") {
    const auto executable = image::executable();
    struct stat link {};
    struct stat named {};
    REQUIRE(::stat(image::file().c_str(), &link) == 0);
    REQUIRE(::stat(executable.c_str(), &named) == 0);
    CHECK(named.st_ino == link.st_ino);
  }
}
