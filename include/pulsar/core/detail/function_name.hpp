// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The name of a function as a person would say it, from what std::source_location says.

#include <cstddef>
#include <string>
#include <string_view>

namespace pulsar::detail {

inline void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
}

/// Without what stands between `open` and `close`, these included.
inline std::string without_brackets(std::string_view text, char open, char close) {
  std::string left;
  int depth = 0;
  for (const char c : text) {
    if (c == open) ++depth;
    if (depth == 0) left += c;
    if (c == close && depth > 0) --depth;
  }
  return left;
}

/// "future<int> {anonymous}::fetch(std::string) [with T = int]" is "fetch", a lambda in it
/// "fetch::<lambda>", and a coroutine of ours what the user called.
inline std::string function_name(std::string_view pretty) {
  // "[with T = int]" of GCC, "[T = int]" of Clang, which may hold anything.
  if (pretty.ends_with(']')) {
    int depth = 0;
    std::size_t at = pretty.size();
    do {
      --at;
      if (pretty[at] == ']') ++depth;
      if (pretty[at] == '[') --depth;
    } while (at > 0 && depth > 0);
    if (at > 0) pretty = pretty.substr(0, at - 1);
  }
  std::string name(pretty);
  replace_all(name, "{anonymous}::", "");
  replace_all(name, "(anonymous namespace)::", "");
  replace_all(name, "(anonymous class)::operator()", "\x01");
  replace_all(name, "<lambda(", "\x01(");
  replace_all(name, "operator()", "\x02");
  name = without_brackets(name, '(', ')');
  replace_all(name, "\x01>", "\x01");
  name = without_brackets(name, '<', '>');
  for (const std::string_view behind : {" const", " volatile", " noexcept", " &", " &&"}) {
    if (name.ends_with(behind)) name.resize(name.size() - behind.size());
  }
  if (const auto space = name.rfind(' '); space != std::string::npos) name.erase(0, space + 1);
  replace_all(name, "\x01", "<lambda>");
  replace_all(name, "\x02", "operator()");
  struct known {
    std::string_view inside;
    std::string_view outside;
  };
  constexpr known ours[] = {
      {"pulsar::detail::limited", "with_timeout"},
      {"pulsar::detail::outcome_of_future", "as_result"},
      {"pulsar::detail::all_of", "when_all"},
      {"pulsar::detail::outcomes_of", "when_all_settled"},
      {"pulsar::detail::any_of", "when_any"},
      {"pulsar::detail::chain", "then"},
      {"pulsar::detail::with_closure", "create_task"},
      {"pulsar::detail::carry_over", "shield"},
      {"pulsar::detail::retry_calls", "retry"},
      {"pulsar::detail::ask_until", "wait_until"},
      {"pulsar::detail::accept_connections", "accept_each"},
      {"pulsar::detail::group_with_body", "with_task_group"},
      {"pulsar::detail::server_with_body", "with_server"},
      {"pulsar::detail::stop_server", "server::stop"},
      {"pulsar::detail::wait_for_server", "server::wait_closed"},
      {"pulsar::detail::body_of_group", "the body of with_task_group"},
      {"pulsar::tls::detail::connect_securely", "tls::connect"},
      {"pulsar::tls::detail::shake_hands", "tls::handshake"},
      {"pulsar::tls::detail::shake", "tls::shake_hands"},
      {"pulsar::tls::detail::serve_securely", "a connection of tls::start_server"},
      {"pulsar::task_group::watch", "a child of task_group"},
      {"pulsar::task_group::wait", "task_group::join"},
  };
  for (const auto& each : ours) {
    if (name == each.inside) return std::string(each.outside);
  }
  for (const std::string_view before : {"pulsar::detail::", "pulsar::"}) {
    if (name.starts_with(before)) return name.substr(before.size());
  }
  return name;
}

}  // namespace pulsar::detail
