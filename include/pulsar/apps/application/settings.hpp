// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// The settings of an application, and its command line.
///
///     auto parsed = pulsar::parse_settings(argc, argv, {.name = "hello"});
///     if (parsed.exit) return *parsed.exit;      // --help, --version, or a mistake
///     use(parsed.values.bind);

#include <pulsar/actors/spawn.hpp>
#include <pulsar/core/log.hpp>
#include <pulsar/version.hpp>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar {

/// What the command line of an application sets. The defaults are the Python pulsar's.
struct settings {
  std::vector<std::string> bind{"127.0.0.1:8060"};  ///< Addresses to listen at.
  unsigned workers = 1;                             ///< At least 1.
  concurrency_kind concurrency = concurrency_kind::process;
  log_level level = log_level::info;
  std::chrono::seconds graceful_timeout{30};        ///< For requests under way at a stop.
};

/// What an application says of itself in `--help` and `--version`.
struct program_description {
  std::string_view name = "pulsar";
  std::string_view about = "";
  std::string_view version = pulsar::version;
};

/// The outcome of a command line: values, or the code to exit with, all being said.
struct parsed_settings {
  settings values;
  std::optional<int> exit;
};

/// The exit code for a bad command line.
inline constexpr int usage_exit_code = 2;

/// Reads the command line on top of `defaults`. `--help` and `--version` print to standard output
/// and ask for exit code 0; a mistake prints one sentence to standard error and asks for 2.
/// PULSAR_CONCURRENCY stands behind `--concurrency`.
inline parsed_settings parse_settings(int argc, const char* const* argv,
                                      program_description program = {}, settings defaults = {}) {
  parsed_settings result{std::move(defaults), std::nullopt};
  settings& s = result.values;
  std::string concurrency(to_string(s.concurrency));
  std::string level(to_string(s.level));
  long graceful = static_cast<long>(s.graceful_timeout.count());

  CLI::App app{std::string(program.about), std::string(program.name)};
  app.set_help_flag("-h,--help", "Print this and exit");
  app.set_version_flag("--version", fmt::format("{} {}", program.name, program.version),
                       "Print the version and exit");
  app.add_option("-b,--bind", s.bind, "Address to listen at: HOST:PORT, :PORT, [V6]:PORT, unix:PATH")
      ->take_all()
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("-w,--workers", s.workers, "Number of workers")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  app.add_option("--concurrency", concurrency, "What a worker is: process, thread or coroutine")
      ->check(CLI::IsMember({"process", "thread", "coroutine"}))
      ->envname("PULSAR_CONCURRENCY")
      ->capture_default_str();
  app.add_option("--log-level", level, "trace, debug, info, warning, error, critical or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "critical", "off"}))
      ->capture_default_str();
  app.add_option("--graceful-timeout", graceful, "Seconds for requests under way at a stop")
      ->check(CLI::Range(0L, 86'400L))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    result.exit = app.exit(e);
    return result;
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "{}: {} (--help lists the options)\n", program.name, e.what());
    result.exit = usage_exit_code;
    return result;
  }
  s.concurrency = parse_concurrency(concurrency).value_or(s.concurrency);
  s.level = parse_log_level(level).value_or(s.level);
  s.graceful_timeout = std::chrono::seconds(graceful);
  return result;
}

}  // namespace pulsar
