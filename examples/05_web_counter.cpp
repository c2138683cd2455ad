// A web server whose workers, processes of their own, share one actor:
//     ./05_web_counter --workers 2 &   curl http://127.0.0.1:8060/
#include <pulsar/http.hpp>

namespace {

class counter : public pulsar::actor<counter> {
 public:
  long next() { return ++count_; }
  using commands = pulsar::commands<&counter::next>;

 private:
  long count_ = 0;
};

pulsar::future<long> next_number() {
  const pulsar::named_actor shared("counter");
  auto asked = co_await as_result(pulsar::send<long>(shared, "next"));
  if (asked.code() == pulsar::errc::unknown_actor) {
    // Whoever comes first starts it; a worker that was slower is told that the name is taken.
    const pulsar::spawn_options options{.name = "counter"};
    auto born = co_await as_result(pulsar::spawn<counter, pulsar::concurrency::process>(options));
    if (!born && born.code() != pulsar::errc::name_taken) std::rethrow_exception(born.exception());
    asked = co_await as_result(pulsar::send<long>(shared, "next"));
  }
  co_return asked.value();
}

pulsar::future<pulsar::http::response> answer(pulsar::http::request& request) {
  if (request.path() != "/") co_return pulsar::http::response(404, "not here\n");
  const long number = co_await next_number();
  pulsar::http::response page(fmt::format("{{\"visitor\": {}}}\n", number));
  page.content_type("application/json").header("cache-control", "no-store");
  co_return page;
}

}  // namespace

int main(int argc, char** argv) {
  return pulsar::http::server(&answer, "web_counter").run(argc, argv);
}
