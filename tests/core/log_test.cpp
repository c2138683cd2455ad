// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/log.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <optional>
#include <regex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using pulsar::log_level;
// `log` alone is the mathematical function.
namespace logging = pulsar::log;

namespace {

struct record {
  log_level level;
  std::string line;
};

// A sink is a plain function, so what it collects is global.
std::mutex records_mutex;
std::vector<record> records;

void collect(log_level level, std::string_view line) {
  const std::lock_guard lock(records_mutex);
  records.push_back({level, std::string(line)});
}

/// Collects the records while it lives, then restores the logger.
class collector {
 public:
  explicit collector(log_level level)
      : level_(logging::level()), sink_(logging::set_sink(&collect)) {
    logging::set_level(level);
    records.clear();
  }
  collector(const collector&) = delete;
  collector& operator=(const collector&) = delete;
  ~collector() {
    logging::set_level(level_);
    logging::set_sink(sink_);
  }

 private:
  log_level level_;
  pulsar::log_sink sink_;
};

/// Counts how often it is formatted.
struct counted {
  int* times;
};

}  // namespace

template <>
struct fmt::formatter<counted> : fmt::formatter<int> {
  template <class Context>
  auto format(const counted& value, Context& context) const {
    return fmt::formatter<int>::format(++*value.times, context);
  }
};

TEST_SUITE("log") {
  TEST_CASE("every level has a name that parses back to it") {
    for (int i = 0; i <= static_cast<int>(log_level::off); ++i) {
      const auto level = static_cast<log_level>(i);
      CAPTURE(to_string(level));
      CHECK(pulsar::parse_log_level(to_string(level)) == level);
    }
  }

  TEST_CASE("what is no level's name is nothing") {
    CHECK(pulsar::parse_log_level("") == std::nullopt);
    CHECK(pulsar::parse_log_level("INFO") == std::nullopt);
    CHECK(pulsar::parse_log_level("infos") == std::nullopt);
  }

  TEST_CASE("the level at the start is info") { CHECK(logging::level() == log_level::info); }

  TEST_CASE("a record is one line with time, process, level and text") {
    const collector all(log_level::trace);
    logging::info("listening on {}:{}", "127.0.0.1", 8060);
    REQUIRE(records.size() == 1);
    CHECK(records[0].level == log_level::info);
    CAPTURE(records[0].line);
    const std::regex shape(
        R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[(\d+)\] \[info\] listening on 127\.0\.0\.1:8060\n)");
    std::smatch match;
    REQUIRE(std::regex_match(records[0].line, match, shape));
    CHECK(match[1].str() == std::to_string(::getpid()));
  }

  TEST_CASE("a record stays one line, whatever strangers have put into its text") {
    const collector all(log_level::trace);
    logging::info("{}", "one\ntwo\x1b[2J\t\x7f \xc3\xa4 end");
    REQUIRE(records.size() == 1);
    const auto& line = records[0].line;
    CAPTURE(line);
    CHECK(line.find("[info] one\\ntwo\\x1b[2J\\t\\x7f \xc3\xa4 end\n") != std::string::npos);
    CHECK(line.find('\n') == line.size() - 1);
  }

  TEST_CASE("a record is cut, between characters, when it is too long") {
    const collector all(log_level::trace);
    std::string umlauts;
    for (int i = 0; i < 500'000; ++i) umlauts += "\xc3\xa4";
    for (const std::string prefix : {"", "x"}) {
      records.clear();
      logging::info("{}{}", prefix, umlauts);
      REQUIRE(records.size() == 1);
      const auto& line = records[0].line;
      CHECK(line.size() <= 4097);
      CHECK(line.size() >= 4090);
      CHECK(line.ends_with("\xa4 ... (cut)\n"));
    }
  }

  TEST_CASE("logging leaves errno as it was, and a sink that throws harms nobody") {
    const collector all(log_level::trace);
    pulsar::log::set_sink([](log_level, std::string_view) {
      errno = EIO;
      throw std::runtime_error("the disk is full");
    });
    errno = ENOENT;
    logging::info("x");
    CHECK(errno == ENOENT);
  }

  TEST_CASE("a signal while standard error is full costs no line") {
    int ends[2] = {-1, -1};
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const int before = ::dup(STDERR_FILENO);
    REQUIRE(::dup2(ends[1], STDERR_FILENO) >= 0);
    struct sigaction handled {};
    struct sigaction previous {};
    handled.sa_handler = [](int) {};  // without SA_RESTART
    REQUIRE(::sigaction(SIGUSR1, &handled, &previous) == 0);
    constexpr int lines = 500;
    std::atomic<bool> done{false};
    std::thread writer([&] {
      const std::string text(1'000, 'x');
      for (int i = 0; i < lines; ++i) logging::error("{}", text);
      done = true;
    });
    int read_lines = 0;
    std::array<char, 16'384> chunk;
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    for (;;) {
      ::pthread_kill(writer.native_handle(), SIGUSR1);
      const bool last = done;
      const auto n = ::read(ends[0], chunk.data(), chunk.size());
      if (n > 0) read_lines += static_cast<int>(std::count(chunk.data(), chunk.data() + n, '\n'));
      if (n <= 0 && last) break;
    }
    writer.join();
    ::sigaction(SIGUSR1, &previous, nullptr);
    ::dup2(before, STDERR_FILENO);
    for (const int fd : {before, ends[0], ends[1]}) ::close(fd);
    CHECK(read_lines == lines);
  }

  TEST_CASE("each function writes at its level") {
    const collector all(log_level::trace);
    logging::trace("x");
    logging::debug("x");
    logging::info("x");
    logging::warning("x");
    logging::error("x");
    logging::critical("x");
    REQUIRE(records.size() == 6);
    for (int i = 0; i < 6; ++i) {
      const auto level = static_cast<log_level>(i);
      const auto& written = records[static_cast<std::size_t>(i)];
      CHECK(written.level == level);
      CHECK(written.line.find("[" + std::string(to_string(level)) + "] x\n") != std::string::npos);
    }
  }

  TEST_CASE("what is below the level is neither written nor formatted") {
    const collector from_warning(log_level::warning);
    int times = 0;
    logging::info("{}", counted{&times});
    CHECK(times == 0);
    CHECK(records.empty());
    logging::warning("{}", counted{&times});
    CHECK(times == 1);
    CHECK(records.size() == 1);
  }

  TEST_CASE("off silences even critical records") {
    const collector silent(log_level::off);
    logging::critical("nobody reads this");
    CHECK(records.empty());
  }

  TEST_CASE("a scope names the speaker, the inner one while it lasts") {
    const collector all(log_level::trace);
    logging::info("before");
    {
      const pulsar::log_scope outer("arbiter");
      logging::info("first");
      {
        const pulsar::log_scope inner("bank");
        logging::info("second");
      }
      logging::info("third");
    }
    logging::info("after");
    REQUIRE(records.size() == 5);
    CHECK(records[0].line.find("[info] before") != std::string::npos);
    CHECK(records[1].line.find("[info] [arbiter] first") != std::string::npos);
    CHECK(records[2].line.find("[info] [bank] second") != std::string::npos);
    CHECK(records[3].line.find("[info] [arbiter] third") != std::string::npos);
    CHECK(records[4].line.find("[info] after") != std::string::npos);
  }

  TEST_CASE("the speaker of one thread is not that of another") {
    const collector all(log_level::trace);
    const pulsar::log_scope here("here");
    std::thread([] { logging::info("from another thread"); }).join();
    REQUIRE(records.size() == 1);
    CHECK(records[0].line.find("[here]") == std::string::npos);
  }

  TEST_CASE("records of several threads arrive whole") {
    const collector all(log_level::trace);
    constexpr std::size_t each = 200;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (std::size_t i = 0; i < each; ++i) logging::info("thread {} record {}", t, i);
      });
    }
    for (auto& thread : threads) thread.join();
    REQUIRE(records.size() == 4 * each);
    for (const auto& written : records) {
      CHECK(written.line.find("thread ") != std::string::npos);
      CHECK(written.line.find('\n') == written.line.size() - 1);
    }
  }

  TEST_CASE("set_sink returns the sink before") {
    const auto before = logging::set_sink(&collect);
    CHECK((logging::set_sink(before) == &collect));
  }

  TEST_CASE("without a sink of one's own, records go to standard error") {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const int saved = ::dup(STDERR_FILENO);
    REQUIRE(saved >= 0);
    ::dup2(ends[1], STDERR_FILENO);
    logging::error("the port is in use");
    ::dup2(saved, STDERR_FILENO);
    ::close(saved);
    ::close(ends[1]);

    std::array<char, 256> buffer{};
    const auto n = ::read(ends[0], buffer.data(), buffer.size());
    ::close(ends[0]);
    REQUIRE(n > 0);
    const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
    CHECK(text.ends_with("[error] the port is in use\n"));
  }
}
