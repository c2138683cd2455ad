// A web server: any method and path gets 200 and thirteen bytes.
// [hello_world]
#include <pulsar/http.hpp>

int main(int argc, char** argv) {
  pulsar::http::server hello([](pulsar::http::request&) {
    return pulsar::http::response("Hello, World!");
  }, "hello_world");
  return hello.run(argc, argv);
}
// [/hello_world]
