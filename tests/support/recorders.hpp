// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// Protocols that note what they are told, and a future of the next time.
///
///     co_await told.change();
///     CHECK(told.notes == "made;pause;");

#include <pulsar/core/datagram_transport.hpp>
#include <pulsar/core/future.hpp>
#include <pulsar/core/transport.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

inline std::string_view text_of(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

/// What a test waits for: that something is noted.
class notebook {
 public:
  void changed() {
    if (waiting_) std::exchange(waiting_, std::nullopt)->set_value();
  }
  /// Until something happens.
  pulsar::future<> change() { return waiting_.emplace().get_future(); }

  std::string notes{};

 private:
  std::optional<pulsar::promise<>> waiting_{};
};

/// Collects what comes by a connection.
struct collector : pulsar::protocol, notebook {
  void connection_made(pulsar::transport& by) override {
    line = by;
    notes += "made;";
  }
  void data_received(std::span<const std::byte> data) override {
    got += text_of(data);
    changed();
  }
  void connection_lost(std::error_code why) override {
    notes += "lost;";
    reason = why;
    line = pulsar::transport();
    changed();
  }
  void pause_writing() override { notes += "pause;"; }
  void resume_writing() override {
    notes += "resume;";
    changed();
  }

  pulsar::transport line{};
  std::string got{};
  std::error_code reason{};
};

/// Notes the datagrams that come to a socket.
struct datagram_recorder : pulsar::datagram_protocol, notebook {
  void connection_made(pulsar::datagram_transport& by) override {
    socket = by;
    notes += "made;";
  }
  void datagram_received(std::span<const std::byte> data,
                         const pulsar::address::endpoint& from) override {
    notes.append(text_of(data)).append(";");
    sender = from;
    if (echoes) socket.sendto(data, from);
    changed();
  }
  void error_received(std::error_code why) override {
    notes += "error;";
    last_error = why;
    changed();
  }
  void connection_lost(std::error_code) override {
    notes += "lost;";
    changed();
  }
  void pause_writing() override { notes += "pause;"; }
  void resume_writing() override {
    notes += "resume;";
    changed();
  }

  pulsar::datagram_transport socket{};
  pulsar::address::endpoint sender{};
  std::error_code last_error{};
  bool echoes = false;
};
