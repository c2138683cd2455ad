// A server and a client over streams: lines there and back.
#include <pulsar/core/connect.hpp>
#include <pulsar/core/server.hpp>
#include <pulsar/pulsar.hpp>

#include <cctype>

// [streams]
pulsar::future<> shout(pulsar::stream peer) {
  for (;;) {
    std::string line = co_await peer.read_line();
    if (line.empty()) break;  // the client has ended
    for (char& c : line) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    peer.write(line);
    co_await peer.drain();  // not faster than the client reads
  }
  co_await peer.close();
}

pulsar::future<> ask(pulsar::address where) {
  pulsar::stream server = co_await pulsar::connect(where);
  server.write("hello\nstreams\n");
  server.write_eof();
  fmt::print("{}", co_await server.read_to_end());
}
// [/streams]

pulsar::future<> app() {
  pulsar::server at = co_await pulsar::start_server(&shout, "127.0.0.1:0");
  co_await ask(at.addresses()[0]);
  at.close();
  co_await at.wait_closed();
  fmt::print("{} connection\n", at.accepted());
}

int main() {
  pulsar::event_loop loop;
  loop.run_until_complete(app);
}
// output:
// HELLO
// STREAMS
// 1 connection
