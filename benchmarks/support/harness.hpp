// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Measures subjects beside a yardstick of the same run and prints one row each.
///
///     int main(int argc, char** argv) {
///       return bench::run(argc, argv, [](bench::suite& suite) {
///         suite.compare({"asio::post", &post_chain},
///                       {{"call_soon", &call_soon_chain, bench::value_at_most(6, 3)}});
///       });
///     }
///
/// Subject and yardstick take turns (AB, BA, AB ...), so that a machine that grows slower or
/// faster meanwhile does so for both. A value is the median of the rounds, its spread the
/// interquartile range in per cent of it, a ratio the median of the rounds' ratios.

#include <fmt/format.h>

#include "machine.hpp"
#include "report.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace bench {

/// Runs that many operations and returns the seconds they took, without its own preparations.
using kernel = std::function<double(std::uint64_t operations)>;

/// Something that is measured: `make` prepares it (loops, actors, processes) and is called only
/// if the subject is wanted.
struct subject {
  std::string name;
  std::function<kernel()> make;
  target goal{};
  /// How many operations `check_instructions.sh` counts over: a multiple of four, 0 for a peer
  /// whose costs are not ours.
  std::uint64_t counted = 24000;
};

/// The clock of `timed`: what `--cpu-time` changes.
inline clockid_t kernel_clock = CLOCK_MONOTONIC;

/// Times `work`: the usual body of a kernel.
template <class Work>
double timed(Work&& work) {
  const double began = seconds_of(kernel_clock);
  std::forward<Work>(work)();
  return seconds_of(kernel_clock) - began;
}

/// The number that the option `name` was given. Throws `std::invalid_argument`.
template <class Number>
Number parse_number(std::string_view name, std::string_view text) {
  Number value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size() || value <= 0) {
    throw std::invalid_argument(fmt::format("{} wants a number above 0, not \"{}\"", name, text));
  }
  return value;
}

/// What the command line asks for.
struct options {
  bool json = false;
  bool quick = false;
  bool header = true;
  bool list = false;
  bool countable = false;
  int rounds = 15;
  std::string only{};
  std::string once{};
  std::uint64_t iterations = 0;
  /// `--NAME VALUE` that the program itself declared.
  std::map<std::string, std::string> own{};
};

/// Collects the rows of one program.
class suite {
 public:
  explicit suite(options wanted) : options_(std::move(wanted)) {}

  /// Measures `subjects` and `yardstick` in nanoseconds an operation and adds a row a subject.
  void compare(const subject& yardstick, const std::vector<subject>& subjects) {
    if (!options_.once.empty()) {
      for (const auto& each : subjects) run_once(each.name, each);
      return run_once(subjects.front().name + ":yardstick", yardstick);
    }
    std::vector<subject> chosen{yardstick};
    for (const auto& each : subjects) {
      if (options_.list) names_.push_back(each.name);
      if (options_.countable && each.counted != 0)
        names_.push_back(fmt::format("{} {}", each.name, each.counted));
      if (wanted(each.name)) chosen.push_back(each);
    }
    if (chosen.size() < 2) return;
    std::vector<std::function<double()>> samplers;
    for (const auto& each : chosen) samplers.push_back(sampler(each.make()));
    add_rows(chosen, "ns", take_turns(samplers, options_.rounds));
  }

  /// Measures figures that are not times: each sampler gives one value in `unit` a round.
  /// `yardstick.make` and those of `subjects` are ignored; `samplers` begins with the yardstick's.
  void compare_values(const subject& yardstick,
                      const std::vector<subject>& subjects,
                      const std::string& unit,
                      const std::vector<std::function<double()>>& samplers,
                      int rounds) {
    std::vector<subject> all{yardstick};
    all.insert(all.end(), subjects.begin(), subjects.end());
    add_rows(all, unit, take_turns(samplers, rounds));
  }

  /// Declares a subject whose instructions and system calls are counted and that `compare` does
  /// not measure.
  void count(const subject& each) {
    if (options_.countable) names_.push_back(fmt::format("{} {}", each.name, each.counted));
    if (!options_.once.empty()) run_once(each.name, each);
  }

  /// Adds a row that was measured elsewhere.
  void add(row figure) { rows_.push_back(std::move(figure)); }

  /// Declares a subject that is not measured by `compare`; true if it shall be measured now.
  bool wants(const std::string& name) {
    if (options_.list) names_.push_back(name);
    return options_.once.empty() && wanted(name);
  }

  const options& asked() const noexcept { return options_; }

  /// The value of an option of the program's own, or `otherwise`.
  std::string own(const std::string& name, std::string otherwise) const {
    const auto found = options_.own.find(name);
    return found == options_.own.end() ? std::move(otherwise) : found->second;
  }

  /// Prints what was collected; the exit code of the program.
  int finish() const {
    if (options_.list || options_.countable) {
      for (const auto& name : names_) fmt::print("{}\n", name);
      return 0;
    }
    if (!options_.once.empty()) {
      if (!ran_) {
        throw std::invalid_argument("no subject \"" + options_.once + "\" here: see --list");
      }
      return 0;
    }
    if (!options_.only.empty() && rows_.empty()) {
      throw std::invalid_argument("no subject \"" + options_.only + "\" here: see --list");
    }
    if (options_.json) {
      print_json(rows_);
    } else {
      print_table(rows_, options_.header ? table_head::yes : table_head::no);
    }
    return 0;
  }

 private:
  bool wanted(const std::string& name) const {
    return !options_.list && !options_.countable &&
           (options_.only.empty() || options_.only == name);
  }

  void run_once(const std::string& name, const subject& each) {
    if (name != options_.once) return;
    ran_ = true;
    each.make()(options_.iterations);
  }

  /// A sampler whose number of operations makes a sample last long enough for the clock.
  std::function<double()> sampler(kernel work) const {
    const double enough = options_.quick ? 0.001 : 0.02;
    std::uint64_t operations = 16;
    for (;;) {
      const double took = work(operations);
      if (took >= enough) break;
      const double factor = std::clamp(1.3 * enough / std::max(took, 1e-9), 2.0, 16.0);
      operations = static_cast<std::uint64_t>(static_cast<double>(operations) * factor);
    }
    return [work = std::move(work), operations] {
      return 1e9 * work(operations) / static_cast<double>(operations);
    };
  }

  static std::vector<std::vector<double>> take_turns(
      const std::vector<std::function<double()>>& samplers, int rounds) {
    std::vector<std::vector<double>> values(samplers.size());
    for (int round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < samplers.size(); ++i) {
        const auto turn = round % 2 == 0 ? i : samplers.size() - 1 - i;
        values[turn].push_back(samplers[turn]());
      }
    }
    return values;
  }

  void add_rows(const std::vector<subject>& all,
                const std::string& unit,
                const std::vector<std::vector<double>>& values) {
    for (std::size_t i = 1; i < all.size(); ++i) {
      std::vector<double> ratios;
      for (std::size_t round = 0; round < values[i].size(); ++round) {
        ratios.push_back(values[i][round] / values[0][round]);
      }
      rows_.push_back({all[i].name, median(values[i]), unit, spread(values[i]), all[0].name,
                       median(values[0]), median(ratios), all[i].goal});
    }
  }

  options options_;
  std::vector<row> rows_{};
  std::vector<std::string> names_{};
  bool ran_ = false;
};

namespace detail {

inline constexpr auto usage =
    "usage: {} [option ...]\n"
    "  --json               print a JSON array of rows\n"
    "  --quick              few and short rounds: shows that it runs, not how fast\n"
    "  --rounds N           rounds of subject and yardstick (15)\n"
    "  --only NAME          measure this subject alone\n"
    "  --cpu-time           time the CPU time of the measuring thread, for a machine that is busy\n"
    "                       with other things; wrong for subjects that wait for another thread\n"
    "  --list               print the names of the subjects\n"
    "  --countable          print the subjects that --once runs, each with the N to count with\n"
    "  --no-header          leave out the head of the table\n"
    "  --once NAME --iterations N\n"
    "                       run the subject's kernel alone, N operations, and print nothing;\n"
    "                       NAME:yardstick runs the yardstick of that comparison\n"
    "  --compiler           print the compiler that built this program\n";

inline options parse(int argc, char** argv, const std::vector<std::string>& own) {
  options wanted;
  bool rounds_given = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) throw std::invalid_argument(fmt::format("{} wants a value", name));
      return argv[++i];
    };
    if (name == "--json") {
      wanted.json = true;
    } else if (name == "--quick") {
      wanted.quick = true;
    } else if (name == "--no-header") {
      wanted.header = false;
    } else if (name == "--list") {
      wanted.list = true;
    } else if (name == "--countable") {
      wanted.countable = true;
    } else if (name == "--cpu-time") {
      kernel_clock = CLOCK_THREAD_CPUTIME_ID;
    } else if (name == "--rounds") {
      wanted.rounds = parse_number<int>(name, value());
      rounds_given = true;
    } else if (name == "--only") {
      wanted.only = value();
    } else if (name == "--once") {
      wanted.once = value();
    } else if (name == "--iterations") {
      wanted.iterations = parse_number<std::uint64_t>(name, value());
    } else if (std::find(own.begin(), own.end(), name) != own.end()) {
      wanted.own[std::string(name.substr(2))] = value();
    } else {
      throw std::invalid_argument(fmt::format("unknown option {}: see --help", name));
    }
  }
  if (wanted.quick && !rounds_given) wanted.rounds = 3;
  if (wanted.once.empty() != (wanted.iterations == 0)) {
    throw std::invalid_argument("--once and --iterations go together");
  }
  return wanted;
}

}  // namespace detail

/// The `main` of a benchmark: reads the options, lets `body` measure, prints.
///
/// `own` are options with a value that only this program has ("--server"). Returns 0, 1 if the
/// measurement failed, 2 for a wrong command line. A missed target is a mark in the table.
inline int run(int argc,
               char** argv,
               const std::function<void(suite&)>& body,
               const std::vector<std::string>& own = {}) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    fmt::print(detail::usage, argv[0]);
    for (const auto& name : own) fmt::print("  {} VALUE\n", name);
    return 0;
  }
  if (argc == 2 && std::string_view(argv[1]) == "--compiler") {
    fmt::print("{}{}\n", compiler(), release_build() ? "" : " (not a release build)");
    return 0;
  }
  std::optional<suite> figures;
  try {
    figures.emplace(detail::parse(argc, argv, own));
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr, "{}: {}\n", argv[0], e.what());
    return 2;
  }
  if (!release_build() && !figures->asked().list && !figures->asked().countable) {
    fmt::print(stderr, "{}: not a release build: its figures say nothing\n", argv[0]);
  }
  try {
    body(*figures);
    return figures->finish();
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", argv[0], e.what());
    return 1;
  }
}

}  // namespace bench
