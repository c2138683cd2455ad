// SPDX-License-Identifier: BSD-3-Clause

/// \file
/// Requests that examples/hello_world answers in one second of server CPU time, beside nginx with
/// the same answer (nginx.conf) and two servers that know no HTTP, under wrk at 64 connections.
///
/// Server and load share the machine's CPUs: what a request costs the server does not depend on
/// how often it has to wait for its turn, as long as it always has work. The program says so if
/// CPUs were idle.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peers/raw_asio.hpp"
#include "peers/raw_epoll.hpp"
#include "support/harness.hpp"
#include "support/server_process.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;

/// The first of `candidates` that is there.
std::string program(const std::string& what, const std::vector<std::string>& candidates) {
  for (const auto& each : candidates) {
    if (::access(each.c_str(), X_OK) == 0) return each;
  }
  throw std::runtime_error(
      fmt::format("{} is missing; looked for {}", what, fmt::join(candidates, ", ")));
}

/// A directory of our own under the one for temporary files; removed at the end.
class scratch {
 public:
  scratch() {
    std::string name = (fs::temp_directory_path() / "pulsar_bench_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw std::system_error(errno, std::generic_category(), name);
    }
    path = name;
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }

  fs::path path;
};

/// Writes the configuration beside this source with our address and number of workers.
fs::path nginx_configuration(const fs::path& where, std::uint16_t port, int workers) {
  const fs::path source = fs::path(__FILE__).parent_path() / "nginx.conf";
  std::ifstream in(source);
  std::stringstream text;
  text << in.rdbuf();
  std::string configuration = text.str();
  const auto replace = [&](std::string_view what, const std::string& by) {
    const auto at = configuration.find(what);
    if (at == std::string::npos) {
      throw std::runtime_error(fmt::format("{} has no \"{}\"", source.string(), what));
    }
    configuration.replace(at, what.size(), by);
  };
  replace("worker_processes 2;", fmt::format("worker_processes {};", workers));
  replace("listen 127.0.0.1:8071", fmt::format("listen 127.0.0.1:{}", port));
  std::ofstream(where / "nginx.conf") << configuration;
  return where / "nginx.conf";
}

/// The part of the time since boot that all CPUs were idle, and all of it, in ticks.
std::pair<double, double> idle_ticks() {
  std::ifstream stat("/proc/stat");
  std::string cpu;
  stat >> cpu;
  std::array<double, 8> ticks{};  // user nice system idle iowait irq softirq steal
  double sum = 0;
  for (auto& each : ticks) {
    stat >> each;
    sum += each;
  }
  return {ticks[3] + ticks[4], sum};
}

/// Runs wrk for `seconds`; the number of requests that were answered with 200.
double requests_of_wrk(const std::string& wrk, std::uint16_t port, int seconds) {
  const auto command =
      fmt::format("{} -t1 -c64 -d{}s http://127.0.0.1:{}/ 2>&1", wrk, seconds, port);
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::system_error(errno, std::generic_category(), command);
  std::string text;
  std::array<char, 512> bytes;
  while (const auto n = std::fread(bytes.data(), 1, bytes.size(), pipe))
    text.append(bytes.data(), n);
  const int status = ::pclose(pipe);
  const auto at = text.find(" requests in ");
  if (status != 0 || at == std::string::npos || text.find("Non-2xx") != std::string::npos ||
      text.find("Socket errors") != std::string::npos) {
    throw std::runtime_error(fmt::format("{} failed:\n{}", command, text));
  }
  const auto line = text.rfind('\n', at) + 1;
  return std::stod(text.substr(line, at - line));
}

/// The names of the headers of `answer`, in lower case.
std::set<std::string> header_names(const std::string& answer) {
  std::set<std::string> names;
  std::istringstream lines(answer.substr(0, answer.find("\r\n\r\n")));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::string name = line.substr(0, line.find(':'));
    std::transform(name.begin(), name.end(), name.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    names.insert(name);
  }
  return names;
}

/// The comparison is fair only if both send the same: says where they differ.
void compare_answers(const std::string& name, const std::string& ours, const std::string& theirs) {
  const auto body = [](const std::string& answer) {
    return answer.substr(answer.find("\r\n\r\n") + 4);
  };
  if (body(ours) != body(theirs)) {
    fmt::print(stderr, "note: the body of {} is \"{}\", that of nginx \"{}\"\n", name, body(ours),
               body(theirs));
  }
  if (const auto mine = header_names(ours), nginx = header_names(theirs); mine != nginx) {
    fmt::print(stderr, "note: {} sends the headers {}, nginx {}\n", name, fmt::join(mine, " "),
               fmt::join(nginx, " "));
  }
}

/// Where the server of the same build stands, unless another one is named.
std::string pulsar_server(const bench::suite& suite) {
  const fs::path self = fs::read_symlink("/proc/self/exe");
  const auto beside = self.parent_path().parent_path() / "examples" / "hello_world";
  return suite.own("server", beside.string());
}

std::vector<std::string> pulsar_command(const bench::suite& suite,
                                        std::uint16_t port,
                                        int workers) {
  return {
      program("examples/hello_world (build it, or name it with --server)", {pulsar_server(suite)}),
      "--bind",
      fmt::format("127.0.0.1:{}", port),
      "--workers",
      std::to_string(workers),
      "--concurrency",
      "process",
      "--log-level",
      "warning"};
}

/// Requests one after another over one connection to a server with one worker.
bench::kernel requests_in_turn(const bench::suite& suite) {
  const auto port = bench::free_port();
  auto server = std::make_shared<bench::server_process>(pulsar_command(suite, port, 1), port);
  auto connection = std::make_shared<bench::http_connection>(port);
  return [server, connection](std::uint64_t requests) {
    return bench::timed([&] {
      for (; requests != 0; --requests) {
        if (!connection->ask().starts_with("HTTP/1.1 200 ")) {
          throw std::runtime_error("the server does not answer with 200");
        }
      }
    });
  };
}

struct contestant {
  std::string name;
  std::uint16_t port;
  std::unique_ptr<bench::server_process> server;
};

class comparison {
 public:
  comparison(bench::suite& suite, int workers)
      : suite_(suite),
        workers_(workers),
        seconds_(bench::parse_number<int>("--seconds", suite.own("seconds", "1"))),
        wrk_(program("wrk", {suite.own("wrk", "/usr/bin/wrk"), "/usr/local/bin/wrk"})),
        nginx_(program("nginx", {suite.own("nginx", "/usr/sbin/nginx"), "/usr/bin/nginx"})) {}

  void run(const std::string& name) {
    std::vector<bench::subject> subjects;
    const auto add = [&](const std::string& subject, bench::target goal, auto start) {
      if (!suite_.wants(subject)) return;
      if (contestants_.empty()) start_nginx();
      start(subject);
      subjects.push_back({subject, {}, goal});
    };
    add(name, bench::ratio_at_least(1.0, 1.08), [this](const auto& n) { start_pulsar(n); });
    add(name + ":raw_epoll", {}, [this](const auto& n) { start_peer(n, &bench::raw_epoll); });
    add(name + ":raw_asio", {}, [this](const auto& n) { start_peer(n, &bench::raw_asio); });
    if (subjects.empty()) return;
    std::vector<std::function<double()>> samplers;
    for (auto& each : contestants_) {
      samplers.push_back([this, &each] { return requests_per_cpu_second(each); });
    }
    for (auto& sample : samplers) sample();  // warms up
    idle_ = {};
    const int rounds = suite_.asked().quick ? 1 : std::min(suite_.asked().rounds, 9);
    suite_.compare_values({"nginx", {}, {}}, subjects, "req/cpu_s", samplers, rounds);
    tell_about_idle_time();
  }

 private:
  void start_nginx() {
    const auto port = bench::free_port();
    const auto conf = nginx_configuration(files_.path, port, workers_);
    start("nginx", port,
          {nginx_, "-p", files_.path.string(), "-c", conf.string(), "-g", "daemon off;"});
  }

  void start_pulsar(const std::string& name) {
    const auto port = bench::free_port();
    start(name, port, pulsar_command(suite_, port, workers_));
  }

  void start(const std::string& name, std::uint16_t port, const std::vector<std::string>& command) {
    keep({name, port, std::make_unique<bench::server_process>(command, port)});
  }

  void start_peer(const std::string& name, void (*serve)(std::uint16_t, int)) {
    const auto port = bench::free_port();
    keep({name, port, std::make_unique<bench::server_process>(name, port, [this, serve, port] {
            serve(port, workers_);
          })});
  }

  void keep(contestant started) {
    contestants_.push_back(std::move(started));
    const auto& latest = contestants_.back();
    compare_answers(latest.name, bench::http_connection(latest.port).ask(),
                    bench::http_connection(contestants_.front().port).ask());
  }

  double requests_per_cpu_second(const contestant& each) {
    const auto [idle_before, all_before] = idle_ticks();
    const double before = each.server->cpu_seconds();
    const double requests = requests_of_wrk(wrk_, each.port, seconds_);
    const double used = each.server->cpu_seconds() - before;
    const auto [idle_after, all_after] = idle_ticks();
    idle_.push_back(100 * (idle_after - idle_before) / (all_after - all_before));
    return requests / used;
  }

  void tell_about_idle_time() const {
    const double idle = bench::median(idle_);
    if (idle <= 10) return;
    fmt::print(stderr,
               "note: the CPUs were idle for {:.0f} % of the time: wrk was the bottleneck\n", idle);
  }

  bench::suite& suite_;
  int workers_;
  int seconds_;
  std::string wrk_;
  std::string nginx_;
  scratch files_;
  std::vector<contestant> contestants_;
  std::vector<double> idle_;
};

}  // namespace

int main(int argc, char** argv) {
  return bench::run(
      argc, argv,
      [](bench::suite& suite) {
        const int workers = bench::parse_number<int>("--workers", suite.own("workers", "2"));
        if (::access(pulsar_server(suite).c_str(), X_OK) == 0) {
          suite.count({"hello_world", [&] { return requests_in_turn(suite); }, {}, 4000});
        } else if (suite.asked().countable) {
          fmt::print(stderr, "note: hello_world is not counted: {} is not built\n",
                     pulsar_server(suite));
        }
        comparison(suite, workers).run("hello_world");
      },
      {"--server", "--wrk", "--nginx", "--workers", "--seconds"});
}
