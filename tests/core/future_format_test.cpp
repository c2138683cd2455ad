// SPDX-License-Identifier: BSD-3-Clause
#include <pulsar/core/future_format.hpp>

#include "support/coro_test.hpp"

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

using pulsar::clock_kind;
using pulsar::errc;
using pulsar::event_loop;
using pulsar::failure_report;
using pulsar::future;
using pulsar::future_status;
using pulsar::promise;
using pulsar::shared_future;
using pulsar::status_of;

TEST_SUITE("future_format") {
  TEST_CASE("C1: a fresh future is not done, settled it has its result, and its text says so") {
    event_loop loop(clock_kind::virtual_time);
    promise<std::string> p(loop);
    auto f = p.get_future();
    CHECK_FALSE(f.done());
    CHECK(fmt::format("{}", f) == "<future pending>");
    p.set_value("luca");
    CHECK(f.done());
    CHECK(fmt::format("{}", f) == "<future done>");
    CHECK(f.result() == "luca");
    CHECK_THROWS_AS(p.set_value("again"), pulsar::error);
    CHECK(fmt::format("{:>14}", f) == " <future done>");
  }

  TEST_CASE("the text says how it failed, was cancelled, or that it is empty") {
    event_loop loop(clock_kind::virtual_time);
    auto failed = pulsar::make_exceptional_future(
        std::make_exception_ptr(std::runtime_error("no such host")));
    CHECK(fmt::format("{}", failed) == "<future failed: no such host>");
    CHECK(status_of(failed) == future_status::failed);
    promise<int> p(loop);
    shared_future f(p.get_future());
    CHECK(status_of(f) == future_status::pending);
    f.cancel();
    CHECK(status_of(f) == future_status::cancelled);
    CHECK(fmt::format("{} {}", f, status_of(f)) == "<future cancelled> cancelled");
    CHECK(status_of(future<>()) == future_status::empty);
    std::ostringstream out;
    out << failed << ' ' << f << ' ' << status_of(shared_future<>());
    CHECK(out.str() == "<future failed: no such host> <future cancelled> empty");
    CHECK(failed.exception() != nullptr);
  }

  TEST_CASE("looking at the text of a failure does not count as seeing it") {
    event_loop loop(clock_kind::virtual_time);
    int reports = 0;
    loop.set_exception_handler([&](const failure_report&) { ++reports; });
    {
      auto failed =
          pulsar::make_exceptional_future(std::make_exception_ptr(std::runtime_error("unseen")));
      CHECK(status_of(failed) == future_status::failed);
    }
    CHECK(reports == 1);
  }
}
