// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Figures and how they are printed: rows, their targets, the table, the JSON array.
///
///     bench::row figure{"call_soon", 3.1, "ns", 1.2, "asio::post", 77.0, 0.04,
///                       bench::value_at_most(6, 3)};
///     bench::print_table({figure}, bench::table_head::yes);

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// What a figure has to reach, and what is worth aiming at.
struct target {
  enum class kind { none, value_at_most, ratio_at_most, ratio_at_least };

  kind what = kind::none;
  double limit = 0;
  double aim = 0;
};

/// The value itself, in its unit, is at most `limit`.
inline target value_at_most(double limit, double aim) {
  return {target::kind::value_at_most, limit, aim};
}

/// The value is at most `limit` times the yardstick's.
inline target ratio_at_most(double limit, double aim) {
  return {target::kind::ratio_at_most, limit, aim};
}

/// The value is at least `limit` times the yardstick's.
inline target ratio_at_least(double limit, double aim) {
  return {target::kind::ratio_at_least, limit, aim};
}

/// One figure, as it is printed.
struct row {
  std::string subject;
  double value = 0;
  std::string unit;
  /// Interquartile range of the rounds, in per cent of the value.
  double spread = 0;
  /// Name and value of what it is compared with; no name: nothing.
  std::string yardstick;
  double yardstick_value = 0;
  double ratio = 0;
  target goal{};
};

/// The middle of `values`, or the mean of the two in the middle.
inline double median(std::vector<double> values) {
  if (values.empty()) throw std::invalid_argument("the median of no values");
  std::sort(values.begin(), values.end());
  const auto half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// The interquartile range of `values` in per cent of their median.
inline double spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    const double place = part * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const auto above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
  };
  return 100 * (at(0.75) - at(0.25)) / median(values);
}

namespace detail {

inline std::string number(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size < 10 ? 2 : size < 1000 ? 1 : 0);
}

inline std::string goal_text(const row& figure) {
  const auto& goal = figure.goal;
  switch (goal.what) {
    case target::kind::none: return "";
    case target::kind::value_at_most:
      return fmt::format("<= {:g} {} [{:g}]", goal.limit, figure.unit, goal.aim);
    case target::kind::ratio_at_most: return fmt::format("<= {:g} x [{:g}]", goal.limit, goal.aim);
    case target::kind::ratio_at_least: return fmt::format(">= {:g} x [{:g}]", goal.limit, goal.aim);
  }
  return "";
}

/// Whether the goal is reached; nothing where there is none.
inline std::optional<bool> met(const row& figure) {
  switch (figure.goal.what) {
    case target::kind::none: return std::nullopt;
    case target::kind::value_at_most: return figure.value <= figure.goal.limit;
    case target::kind::ratio_at_most: return figure.ratio <= figure.goal.limit;
    case target::kind::ratio_at_least: return figure.ratio >= figure.goal.limit;
  }
  return std::nullopt;
}

inline std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace detail

/// Whether a table begins with the names of its columns.
enum class table_head { yes, no };

/// Prints the rows for people.
inline void print_table(const std::vector<row>& rows, table_head head) {
  constexpr auto line = "{:<31} {:>10} {:<9} {:>7}  {:<20} {:>10} {:>7}  {:<18} {}\n";
  if (head == table_head::yes) {
    fmt::print(line, "subject", "value", "unit", "spread", "yardstick", "value", "ratio",
               "target [aim]", "");
  }
  for (const auto& each : rows) {
    const auto reached = detail::met(each);
    const bool alone = each.yardstick.empty();
    fmt::print(line, each.subject, detail::number(each.value), each.unit,
               fmt::format("{:.1f} %", each.spread), each.yardstick,
               alone ? "" : detail::number(each.yardstick_value),
               alone ? "" : fmt::format("{:.2f}", each.ratio), detail::goal_text(each),
               !reached   ? ""
               : *reached ? "met"
                          : "MISSED");
  }
}

/// Prints a JSON array: one row a line, between a line with each bracket (`run.sh` joins them).
inline void print_json(const std::vector<row>& rows) {
  fmt::print("[\n");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& each = rows[i];
    const auto reached = detail::met(each);
    const bool alone = each.yardstick.empty();
    const bool aimless = each.goal.what == target::kind::none;
    fmt::print(
        "{{\"subject\": {}, \"value\": {:.6g}, \"unit\": {}, \"spread\": {:.3g}, "
        "\"yardstick\": {}, \"yardstick_value\": {}, \"ratio\": {}, \"target\": {}, "
        "\"met\": {}}}{}\n",
        detail::quoted(each.subject), each.value, detail::quoted(each.unit), each.spread,
        alone ? "null" : detail::quoted(each.yardstick),
        alone ? "null" : fmt::format("{:.6g}", each.yardstick_value),
        alone ? "null" : fmt::format("{:.4g}", each.ratio),
        aimless ? "null" : detail::quoted(detail::goal_text(each)),
        !reached   ? "null"
        : *reached ? "true"
                   : "false",
        i + 1 < rows.size() ? "," : "");
  }
  fmt::print("]\n");
}

}  // namespace bench
