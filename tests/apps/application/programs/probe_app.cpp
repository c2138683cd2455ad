// SPDX-License-Identifier: BSD-3-Clause
// The application that application_test.cpp starts. It prints, line by line, whatever becomes of
// it; PROBE in its environment says what shall go wrong.

#include <pulsar/apps/application/application.hpp>

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

bool asked_for(std::string_view what) {
  const char* asked = std::getenv("PROBE");
  return asked != nullptr && asked == what;
}

// One write a line, for several processes write.
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  const std::string line = fmt::format(format, std::forward<Args>(args)...) + "\n";
  if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) ::_exit(99);
}

class probe_body : public pulsar::worker_body {
 public:
  pulsar::future<> start(std::vector<pulsar::unique_fd> descriptors, pulsar::bytes) override {
    if (asked_for("start throws")) throw std::runtime_error("there is no licence");
    std::string text(20, '\0');
    for (const auto& fd : descriptors) {
      text.resize(static_cast<std::size_t>(::pread(fd.get(), text.data(), text.size(), 0)));
    }
    say("start {} with {} descriptor, {}", ::getpid(), descriptors.size(), text);
    return pulsar::make_ready_future();
  }

  pulsar::future<> stop(pulsar::event_loop::duration grace) override {
    say("stop {} within {} s", ::getpid(), grace / std::chrono::seconds(1));
    return linger();
  }

 private:
  static pulsar::future<> linger() {
    while (asked_for("stop hangs")) {
      try {
        co_await pulsar::sleep(std::chrono::hours(1));
      } catch (const pulsar::error&) {
      }
    }
  }
};

class probe : public pulsar::application {
 public:
  probe() : application("probe", "What a test looks at", &refuse_spaces) {
    defaults().workers = asked_for("no worker") ? 0 : 2;
    defaults().graceful_timeout = std::chrono::seconds(20);
  }

 protected:
  std::unique_ptr<pulsar::worker_body> make_worker() override {
    say("make {} {} {} {}", ::getpid(), config().workers, to_string(config().level),
        config().graceful_timeout.count());
    if (asked_for("make throws")) throw std::runtime_error("there is no licence");
    return std::make_unique<probe_body>();
  }

  std::vector<int> open() override {
    say("open");
    if (asked_for("open throws")) throw std::runtime_error("the door is locked");
    if (asked_for("TERM in open")) ::kill(::getpid(), SIGTERM);
    file_ = pulsar::unique_fd(::memfd_create("handed out", MFD_CLOEXEC));
    if (::write(file_.get(), "handed out", 10) != 10) throw std::runtime_error("no memory");
    return {file_.get()};
  }

  void when_ready() override {
    say("ready");
    if (asked_for("ready throws")) throw std::runtime_error("nobody is there");
  }

  void close() noexcept override {
    if (std::exchange(closed_, true)) return;
    say("close");
  }

 private:
  static void refuse_spaces(std::string_view text) {
    if (text.find(' ') != std::string_view::npos) throw std::invalid_argument("it has a space");
  }

  pulsar::unique_fd file_;
  bool closed_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (asked_for("second run")) {
    pulsar::run([] { return pulsar::make_ready_future(); });
  }
  return probe().run(argc, argv);
}
