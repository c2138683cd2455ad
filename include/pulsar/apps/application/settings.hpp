// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The settings of an application, and its command line.
///
///     auto parsed = pulsar::parse_settings(argc, argv, {.name = "hello"});
///     if (parsed.exit) return *parsed.exit;   // --help, --version, or a mistake
///     use(parsed.values.bind);
///
/// What stands in the program is the default; PULSAR_CONCURRENCY goes before it, the command line
/// before both.

#include <pulsar/actors/spawn.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/version.hpp>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pulsar {

/// What the command line of an application sets. The defaults are the Python pulsar's.
struct settings {
  std::vector<std::string> bind{"127.0.0.1:8060"};  ///< Addresses to listen at.
  unsigned workers = 1;                             ///< From 1 to 1024.
  concurrency_kind concurrency = concurrency_kind::process;
  log_level level = log_level::info;
  std::chrono::seconds graceful_timeout{30};  ///< For requests under way at a stop.
};

/// What an application says of itself in `--help` and `--version`, and what it asks of values.
struct program_description {
  std::string_view name = "pulsar";
  std::string_view about = "";
  std::string_view version = pulsar::version;
  /// Throws an exception whose text says what is wrong with an address of `--bind`.
  void (*check_bind)(std::string_view text) = nullptr;
};

/// The outcome of a command line: values, or the code to exit with, all being said.
struct parsed_settings {
  settings values;
  std::optional<int> exit;
};

/// The exit code for a bad command line.
inline constexpr int usage_exit_code = 2;

namespace detail {

/// What is wrong with `text` as a number from `least` to `most`; nothing if it is one.
inline std::string number_problem(const std::string& text, unsigned least, unsigned most) {
  unsigned value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure == std::errc{} && end == text.data() + text.size() && value >= least &&
      value <= most) {
    return {};
  }
  return fmt::format("\"{}\" is not a number from {} to {}", text, least, most);
}

/// What is wrong with `text` as one of `words`.
inline std::string word_problem(const std::string& text, const std::vector<std::string>& words) {
  for (const auto& each : words) {
    if (text == each) return {};
  }
  return fmt::format("\"{}\" is none of {}", text, fmt::join(words, ", "));
}

/// What is wrong with `text` as an address.
inline std::string bind_problem(void (*check)(std::string_view), const std::string& text) {
  try {
    if (check != nullptr) check(text);
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

inline constexpr unsigned most_workers = 1024;
inline constexpr unsigned most_seconds = 86'400;

/// What is wrong with the values that the program itself has set; nothing if all is well.
inline std::string defaults_problem(const program_description& program, const settings& values) {
  auto problem = number_problem(std::to_string(values.workers), 1, most_workers);
  if (!problem.empty()) return "the program's settings::workers: " + problem;
  const auto grace = values.graceful_timeout.count();
  problem = number_problem(std::to_string(grace), 0, most_seconds);
  if (!problem.empty()) return "the program's settings::graceful_timeout: " + problem;
  for (const auto& text : values.bind) {
    problem = bind_problem(program.check_bind, text);
    if (!problem.empty()) return "the program's settings::bind: " + problem;
  }
  return {};
}

/// The options of the command line, bound to the values they set.
class option_parser {
 public:
  option_parser(const program_description& program, settings& values)
      : program_(program), app_(std::string(program.about), std::string(program.name)) {
    app_.set_help_flag("-h,--help", "Print this and exit");
    app_.set_version_flag("--version", fmt::format("{} {}", program.name, program.version),
                          "Print the version and exit");
    app_.add_option("-b,--bind", values.bind,
                    "Where to listen: HOST:PORT, :PORT, [IPv6]:PORT or unix:PATH; may be repeated")
        ->expected(1)
        ->take_all()
        ->allow_extra_args(false)
        ->check([check = program.check_bind](const std::string& text) {
          return bind_problem(check, text);
        })
        ->type_name("ADDRESS")
        ->default_str(fmt::format("{}", fmt::join(values.bind, " ")));
    number("-w,--workers", "Number of workers", values.workers, 1, most_workers);
    word("--concurrency",
         "What a worker is: process, thread or coroutine (or by PULSAR_CONCURRENCY)",
         values.concurrency, {"process", "thread", "coroutine"}, &parse_concurrency);
    word("--log-level", "From which level on: trace, debug, info, warning, error, critical or off",
         values.level, {"trace", "debug", "info", "warning", "error", "critical", "off"},
         &parse_log_level);
    number("--graceful-timeout", "Seconds for what is under way when the server stops",
           values.graceful_timeout, 0, most_seconds);
  }

  /// The code to exit with, after saying why; or nothing.
  std::optional<int> parse(int argc, const char* const* argv) {
    try {
      app_.parse(argc, argv);
      return std::nullopt;
    } catch (const CLI::Success& e) {
      return app_.exit(e);
    } catch (const CLI::ExtrasError&) {
      return refuse(fmt::format("\"{}\" is not expected here", app_.remaining().front()));
    } catch (const CLI::ArgumentMismatch& e) {
      const std::string text = e.what();  // "--workers: 1 required N missing"
      return refuse(text.substr(0, text.find(':')) + " needs a value");
    } catch (const CLI::ParseError& e) {
      return refuse(e.what());
    }
  }

  /// Says what is wrong with the command line, and with which code to exit.
  int refuse(const std::string& why) const {
    fmt::print(stderr, "{}: {} (--help lists the options)\n", program_.name, why);
    return usage_exit_code;
  }

 private:
  template <class T>
  static T to_number(const std::string& text) {
    return T(static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 10)));
  }

  static std::string to_text(unsigned value) { return std::to_string(value); }
  static std::string to_text(std::chrono::seconds value) { return std::to_string(value.count()); }

  template <class T>
  void number(const char* flags, const char* help, T& value, unsigned least, unsigned most) {
    app_.add_option_function<std::string>(
            flags, [&value](const std::string& text) { value = to_number<T>(text); }, help)
        ->check([=](const std::string& text) { return number_problem(text, least, most); })
        ->take_last()
        ->type_name("N")
        ->default_str(to_text(value));
  }

  template <class T>
  void word(const char* flags,
            const char* help,
            T& value,
            std::vector<std::string> words,
            std::optional<T> (*named)(std::string_view) noexcept) {
    app_.add_option_function<std::string>(
            flags, [&value, named](const std::string& text) { value = *named(text); }, help)
        ->check([words = std::move(words)](const std::string& text) {
          return word_problem(text, words);
        })
        ->take_last()
        ->type_name("WORD")
        ->default_str(std::string(to_string(value)));
  }

  const program_description& program_;
  CLI::App app_;
};

}  // namespace detail

/// Reads the command line on top of `defaults`. `--help` and `--version` print to standard output
/// and ask for exit code 0; a mistake, be it in the defaults, prints one sentence to standard error
/// and asks for 2.
inline parsed_settings parse_settings(int argc,
                                      const char* const* argv,
                                      program_description program = {},
                                      settings defaults = {}) {
  parsed_settings result{std::move(defaults), std::nullopt};
  constexpr const char* variable = "PULSAR_CONCURRENCY";
  std::string problem = detail::defaults_problem(program, result.values);
  if (const char* text = std::getenv(variable); text != nullptr && *text != '\0') {
    const auto kind = parse_concurrency(text);
    if (kind) result.values.concurrency = *kind;
    if (!kind) {
      problem = fmt::format("{}: {}", variable,
                            detail::word_problem(text, {"process", "thread", "coroutine"}));
    }
  }
  detail::option_parser line(program, result.values);
  result.exit = line.parse(argc, argv);
  if (!result.exit && !problem.empty()) {
    result.exit = line.refuse(problem);
  }
  return result;
}

}  // namespace pulsar
