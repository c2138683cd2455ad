// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `handler`: the function that answers the requests of a server.
///
///     http::handler hello([](http::request&) { return http::response("Hello, World!"); });
///
///     http::handler wait([](http::request&) -> pulsar::future<http::response> {
///       co_await pulsar::sleep(10ms);
///       co_return "Good morning.";
///     });
///
/// The request is there until the response is: until the function has returned, or its future is
/// done. An exception becomes the answer 500, and so does a status below 200, which is no answer.
/// CONNECT never reaches a handler: there is nothing that would open the tunnel.

#include <pulsar/apps/http/request.hpp>
#include <pulsar/apps/http/response.hpp>
#include <pulsar/core/future.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace pulsar::http {

/// Holds any function of `request&` that returns a `response`, something that converts to one, or a
/// `future<response>`. Movable, not copyable.
class handler {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, handler>) handler(F&& f) {
    using function = std::decay_t<F>;
    static_assert(answers<function>,
                  "an HTTP handler is called with http::request& and returns http::response, "
                  "what converts to it, or pulsar::future<http::response>");
    if constexpr (answers<function>) {
      function_ = std::make_unique<model<function>>(std::forward<F>(f));
    }
  }

  /// Calls the function. If that returns a future it is moved to `later`, and what is returned here
  /// says nothing. Throws what the function throws.
  response operator()(request& asked, future<response>& later) const {
    return function_->call(asked, later);
  }

 private:
  struct any_function {
    any_function() = default;
    any_function(const any_function&) = delete;
    any_function& operator=(const any_function&) = delete;
    virtual ~any_function() = default;
    virtual response call(request& asked, future<response>& later) = 0;
  };

  template <class F>
  struct model final : any_function {
    template <class G>
    explicit model(G&& g) : function(std::forward<G>(g)) {}

    response call(request& asked, [[maybe_unused]] future<response>& later) override {
      if constexpr (std::is_same_v<std::invoke_result_t<F&, request&>, future<response>>) {
        later = function(asked);
        return {};
      } else {
        return function(asked);
      }
    }

    F function;
  };

  template <class F>
  static constexpr bool answers = [] {
    if constexpr (std::is_invocable_v<F&, request&>) {
      using result = std::invoke_result_t<F&, request&>;
      return std::is_same_v<result, future<response>> || std::is_convertible_v<result, response>;
    } else {
      return false;
    }
  }();

  std::unique_ptr<any_function> function_;
};

}  // namespace pulsar::http
