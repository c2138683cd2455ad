// The server that server_test.cpp starts, stops and kills.
#include <pulsar/http.hpp>

#include <chrono>
#include <string>

int main(int argc, char** argv) {
  pulsar::http::server hello(
      [](pulsar::http::request& request) -> pulsar::future<pulsar::http::response> {
        if (request.path() == "/slow") co_await pulsar::sleep(std::chrono::milliseconds(300));
        if (request.path() == "/pid") co_return pulsar::http::response(std::to_string(::getpid()));
        co_return pulsar::http::response("Hello, World!");
      },
      "hello_server");
  return hello.run(argc, argv);
}
