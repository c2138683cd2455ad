// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/apps/application/settings.hpp>

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using pulsar::concurrency_kind;
using pulsar::log_level;
using pulsar::settings;

namespace {

// Catches what is written to a standard descriptor while it lives.
class capture {
 public:
  explicit capture(int fd) : fd_(fd), file_(std::tmpfile()) {
    flush();
    before_ = ::dup(fd);
    ::dup2(::fileno(file_), fd);
  }
  capture(const capture&) = delete;
  capture& operator=(const capture&) = delete;
  ~capture() {
    flush();
    ::dup2(before_, fd_);
    ::close(before_);
    std::fclose(file_);
  }

  std::string text() const {
    flush();
    std::string all;
    std::rewind(file_);
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) all += static_cast<char>(c);
    return all;
  }

 private:
  static void flush() {
    std::cout.flush();
    std::fflush(nullptr);
  }

  int fd_;
  int before_ = -1;
  std::FILE* file_;
};

// What became of a command line.
struct outcome {
  settings values;
  std::optional<int> exit;
  std::string out;
  std::string err;
};

void refuse_spaces(std::string_view text) {
  if (text.find(' ') != std::string_view::npos) throw std::invalid_argument("it has a space");
}

outcome parse(std::vector<const char*> arguments, settings defaults = {}) {
  arguments.insert(arguments.begin(), "/usr/bin/program");
  const capture out(STDOUT_FILENO);
  const capture err(STDERR_FILENO);
  auto parsed = pulsar::parse_settings(
      static_cast<int>(arguments.size()), arguments.data(),
      {.name = "hello", .about = "Says hello", .version = "1.2.3", .check_bind = &refuse_spaces},
      std::move(defaults));
  return {std::move(parsed.values), parsed.exit, out.text(), err.text()};
}

struct variable {
  explicit variable(const char* value) { ::setenv("PULSAR_CONCURRENCY", value, 1); }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;
  ~variable() { ::unsetenv("PULSAR_CONCURRENCY"); }
};

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

TEST_SUITE("settings") {
  TEST_CASE("without arguments the defaults hold, and nothing is said") {
    const auto result = parse({});
    CHECK_FALSE(result.exit);
    CHECK(result.out.empty());
    CHECK(result.err.empty());
    CHECK(result.values.bind == std::vector<std::string>{"127.0.0.1:8060"});
    CHECK(result.values.workers == 1);
    CHECK(result.values.concurrency == concurrency_kind::process);
    CHECK(result.values.level == log_level::info);
    CHECK(result.values.graceful_timeout == 30s);
  }

  TEST_CASE("the program's own defaults hold where the command line is silent") {
    settings own;
    own.bind = {"unix:/run/a", ":1"};
    own.workers = 7;
    own.concurrency = concurrency_kind::thread;
    own.level = log_level::error;
    own.graceful_timeout = 5s;
    const auto result = parse({"--workers", "3"}, own);
    CHECK_FALSE(result.exit);
    CHECK(result.values.bind == own.bind);
    CHECK(result.values.workers == 3);
    CHECK(result.values.concurrency == concurrency_kind::thread);
    CHECK(result.values.level == log_level::error);
    CHECK(result.values.graceful_timeout == 5s);
  }

  TEST_CASE("every option sets its value, in every form") {
    const auto longs = parse({"--bind", ":1", "--bind=[::1]:2", "--workers=4", "--concurrency",
                              "coroutine", "--log-level", "trace", "--graceful-timeout", "0"});
    CHECK_FALSE(longs.exit);
    CHECK(longs.values.bind == std::vector<std::string>{":1", "[::1]:2"});
    CHECK(longs.values.workers == 4);
    CHECK(longs.values.concurrency == concurrency_kind::coroutine);
    CHECK(longs.values.level == log_level::trace);
    CHECK(longs.values.graceful_timeout == 0s);

    const auto shorts = parse({"-b", ":1", "-b:2", "-w2"});
    CHECK_FALSE(shorts.exit);
    CHECK(shorts.values.bind == std::vector<std::string>{":1", ":2"});
    CHECK(shorts.values.workers == 2);
  }

  TEST_CASE("a number is read as people write it, and the last one counts") {
    CHECK(parse({"-w", "010"}).values.workers == 10);
    CHECK(parse({"-w", "1024"}).values.workers == 1024);
    CHECK(parse({"-w", "1", "-w", "2"}).values.workers == 2);
  }

  TEST_CASE("every name of a level and of a concurrency is known") {
    for (const char* name : {"trace", "debug", "info", "warning", "error", "critical", "off"}) {
      CHECK(to_string(parse({"--log-level", name}).values.level) == name);
    }
    for (const char* name : {"process", "thread", "coroutine"}) {
      CHECK(to_string(parse({"--concurrency", name}).values.concurrency) == name);
    }
  }

  TEST_CASE("help goes to standard output, names every option with its default, and exits with 0") {
    settings own;
    own.workers = 7;
    for (const char* flag : {"-h", "--help"}) {
      const auto result = parse({flag, "-w", "9"}, own);
      CHECK(result.exit == 0);
      CHECK(result.err.empty());
      for (const char* part :
           {"Says hello", "hello", "-b,--bind", "-w,--workers N=7", "--concurrency", "--log-level",
            "--graceful-timeout", "--version", "127.0.0.1:8060", "PULSAR_CONCURRENCY"}) {
        CHECK_MESSAGE(contains(result.out, part), part, " is missing in ", result.out);
      }
    }
  }

  TEST_CASE("the version goes to standard output and exits with 0") {
    const auto result = parse({"--version"});
    CHECK(result.exit == 0);
    CHECK(result.out == "hello 1.2.3\n");
    CHECK(result.err.empty());
  }

  TEST_CASE("a mistake is one sentence on standard error that names the flag, and exits with 2") {
    struct mistake {
      std::vector<const char*> arguments;
      std::string_view sentence;
    };
    const std::vector<mistake> all{
        {{"-w", "0"}, "--workers: \"0\" is not a number from 1 to 1024"},
        {{"-w", "1025"}, "--workers: \"1025\" is not a number from 1 to 1024"},
        {{"--workers", "many"}, "--workers: \"many\" is not a number from 1 to 1024"},
        {{"--workers", "1.5"}, "--workers: \"1.5\" is not a number from 1 to 1024"},
        {{"--workers", "-3"}, "--workers: \"-3\" is not a number from 1 to 1024"},
        {{"--workers", ""}, "--workers: \"\" is not a number from 1 to 1024"},
        {{"--workers", "99999999999999999999"}, "--workers: \"99999999999999999999\" is not"},
        {{"--workers"}, "--workers needs a value"},
        {{"-w"}, "--workers needs a value"},
        {{"--bind"}, "--bind needs a value"},
        {{"--bind", "a b"}, "--bind: it has a space"},
        {{"--bind", "ok", "-b", "a b"}, "--bind: it has a space"},
        {{"--concurrency", "fiber"},
         "--concurrency: \"fiber\" is none of process, thread, coroutine"},
        {{"--concurrency", "Thread"}, "--concurrency: \"Thread\" is none of"},
        {{"--log-level", "loud"}, "--log-level: \"loud\" is none of trace, debug"},
        {{"--graceful-timeout", "1s"},
         "--graceful-timeout: \"1s\" is not a number from 0 to 86400"},
        {{"--worker", "3"}, "\"--worker\" is not expected here"},
        {{"-x"}, "\"-x\" is not expected here"},
        {{"serve"}, "\"serve\" is not expected here"},
        {{"-b", ":1", ":2"}, "\":2\" is not expected here"},
    };
    for (const auto& [arguments, sentence] : all) {
      CAPTURE(sentence);
      const auto result = parse(arguments);
      CHECK(result.exit == pulsar::usage_exit_code);
      CHECK(result.exit == 2);
      CHECK(result.out.empty());
      CHECK_MESSAGE(result.err.starts_with("hello: " + std::string(sentence)), result.err);
      CHECK(result.err.ends_with(" (--help lists the options)\n"));
      CHECK(result.err.find('\n') == result.err.size() - 1);
    }
  }

  TEST_CASE("PULSAR_CONCURRENCY stands between the program and the command line") {
    {
      const variable thread("thread");
      CHECK(parse({}).values.concurrency == concurrency_kind::thread);
      CHECK(parse({"--concurrency", "coroutine"}).values.concurrency ==
            concurrency_kind::coroutine);
      settings own;
      own.concurrency = concurrency_kind::coroutine;
      CHECK(parse({}, own).values.concurrency == concurrency_kind::thread);
    }
    {
      const variable empty("");
      CHECK(parse({}).values.concurrency == concurrency_kind::process);
    }
    const variable wrong("fiber");
    const auto result = parse({});
    CHECK(result.exit == 2);
    CHECK(result.err.starts_with("hello: PULSAR_CONCURRENCY: \"fiber\" is none of process"));
    CHECK(parse({"--help"}).exit == 0);
  }

  TEST_CASE("a mistake in the program's own settings is refused as one in the command line") {
    settings own;
    std::string expected;
    SUBCASE("no worker") {
      own.workers = 0;
      expected = "the program's settings::workers: \"0\" is not a number from 1 to 1024";
    }
    SUBCASE("too many workers") {
      own.workers = 1025;
      expected = "the program's settings::workers: \"1025\" is not a number from 1 to 1024";
    }
    SUBCASE("a grace that is over before it begins") {
      own.graceful_timeout = -1s;
      expected =
          "the program's settings::graceful_timeout: \"-1\" is not a number from 0 to 86400";
    }
    SUBCASE("a bad address") {
      own.bind = {":1", "a b"};
      expected = "the program's settings::bind: it has a space";
    }
    const auto result = parse({}, own);
    REQUIRE(result.exit.has_value());
    CHECK(*result.exit == 2);
    CHECK(result.err == "hello: " + expected + " (--help lists the options)\n");
    CHECK(parse({"--help"}, own).exit == 0);
  }
}
