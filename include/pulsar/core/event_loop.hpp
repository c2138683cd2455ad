// SPDX-License-Identifier: BSD-3-Clause
#pragma once

/// \file
/// `event_loop`: PEP 3156's loop over one `asio::io_context`, on one thread.
///
///     pulsar::event_loop loop;
///     loop.call_later(1s, [&] { loop.stop(); });
///     loop.run_forever();
///
/// Callbacks and coroutines run from a ready queue of the loop's own; Asio is asked for I/O and to
/// wait. Every member belongs to the loop's thread but `call_soon_threadsafe` and `stop`. Members
/// that take or return futures are defined in future.hpp.

#include <pulsar/core/detail/loop_data.hpp>
#include <pulsar/core/error.hpp>
#include <pulsar/core/handle.hpp>
#include <pulsar/core/log.hpp>

#include <asio/io_context.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <source_location>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace pulsar {

template <class T = void>
class future;
template <class T = void>
class promise;
class executor;
struct resolved_address;
struct resolved_name;
struct resolve_options;
struct accepted_socket;
struct received_datagram;
struct task_info;
struct stream_options;
struct subprocess_options;
struct datagram_endpoint_options;
struct connect_options;
struct server_options;
class server;
class process;
class stream;
class unique_fd;

/// What an exception handler is told about a failure that nobody else will see.
struct failure_report {
  std::string message;          ///< What happened, one sentence.
  std::exception_ptr exception; ///< Null if nothing was thrown.
  std::source_location where;   ///< The coroutine's function and its last await; may be empty.
};

/// The time a loop goes by.
enum class clock_kind {
  steady,        ///< `std::chrono::steady_clock`.
  virtual_time,  ///< Starts at zero and jumps to the next deadline when nothing else can happen.
};

/// A loop of callbacks, timers and coroutines in one thread.
class event_loop : detail::loop_data {
 public:
  using clock = std::chrono::steady_clock;
  using time_point = clock::time_point;
  using duration = clock::duration;
  using exception_handler = std::function<void(const failure_report&)>;
  using source_location = std::source_location;

  /// A loop with a context of its own.
  explicit event_loop(clock_kind kind = clock_kind::steady)
      : loop_data(*this, nullptr, kind) {
    enlist();
  }

  /// A loop on the user's `context`, which one thread runs. `close` it before the context ends, which
  /// otherwise ends the program. What was forked off must not use it.
  explicit event_loop(asio::io_context& context, clock_kind kind = clock_kind::steady);

  event_loop(const event_loop&) = delete;
  event_loop& operator=(const event_loop&) = delete;

  /// Closes it, in the thread that made it.
  ~event_loop();

  /// The loop that is running in this thread, else the only one alive in it. Throws `errc::no_loop`.
  static event_loop& current();

  /// The same, or null.
  static event_loop* find_current() noexcept;

  /// The newest open loop on `context`, its own or a user's; or null. For the thread that runs it.
  static event_loop* find(const asio::io_context& context) noexcept;

  /// The loop that is running in this thread, or null.
  static event_loop* running() noexcept { return detail::this_thread_loops.running; }

  /// Runs until `stop`. Throws `errc::already_running` inside a loop, `errc::loop_closed`. What a
  /// handler of Asio's throws leaves it; then it may be called again.
  void run_forever();

  /// Runs until `what` is done and returns its result, or throws its failure. `what` is a callable
  /// that returns a future, or a future of this loop. Throws `errc::wrong_loop`,
  /// `errc::loop_stopped`, and what `run_forever` throws.
  template <class F>
    requires std::is_invocable_v<F&>
  auto run_until_complete(F&& what);
  template <class T>
  T run_until_complete(future<T>&& what);
  template <class T>
  T run_until_complete(future<T>& what);  // says what to write

  /// Ends `run_forever` soon: what is ready by then may still run. If the loop does not run, its
  /// next `run_forever` ends after one turn. It stops the whole of a user's context. Any thread.
  void stop() noexcept {
    stopping_.store(true, std::memory_order_relaxed);
    context_.stop();
  }

  /// Cancels every coroutine of this loop and runs until they have ended, at most for `limit`;
  /// then frees what is left. On a user's context it runs the user's handlers too while it waits,
  /// and what they throw goes to the exception handler; a coroutine that does not end in time ends the
  /// program: its frame could be in use by the context. At last it waits, whatever `limit` is, for
  /// what still runs in its default executor, which no one can interrupt: a function that may block
  /// for long belongs in an `executor` of the program's. A user's context is left stopped if it was,
  /// or if somebody has stopped it meanwhile. Closing twice does nothing, be it in a handler that
  /// runs while it closes; in a callback or coroutine of a loop that runs it ends the program: call
  /// `stop` there.
  void close(duration limit = std::chrono::seconds(1)) noexcept;

  bool is_running() const noexcept { return running_; }
  bool is_closed() const noexcept { return closed_; }

  /// Now, by this loop's clock.
  time_point time() const noexcept { return kind_ == clock_kind::steady ? clock::now() : virtual_now_; }

  /// Calls `f()` after what is ready already. An exception goes to the exception handler. Throws
  /// `errc::loop_closed`.
  template <class F>
  handle call_soon(F&& f, source_location where = source_location::current());

  /// The same from any thread; false, and `f` is dropped, once the loop is closed.
  template <class F>
  bool call_soon_threadsafe(F&& f, source_location where = source_location::current());

  /// Calls `f()` once, not earlier than `delay` from now, at once if that is negative; precision
  /// 1 ms: what is due within the same one is called in the order in which it was asked for, not of
  /// its deadlines. Throws `errc::loop_closed`.
  template <class F>
  handle call_later(duration delay, F&& f, source_location where = source_location::current());

  /// Calls `f()` once, not earlier than `when` by `time()`; else as `call_later`.
  template <class F>
  handle call_at(time_point when, F&& f, source_location where = source_location::current());

  /// Calls `f()` again and again: the n-th time not earlier than n periods from now, so that it does
  /// not drift. What was missed while the loop was busy is left out. Until its handle is cancelled,
  /// or `f` throws. Throws `errc::loop_closed`, and `std::errc::invalid_argument` for a period that
  /// is not positive.
  template <class F>
  handle call_repeatedly(duration period,
                         F&& f,
                         source_location where = source_location::current());

  /// Calls `f()` once in each turn of the loop, behind I/O, until its handle is cancelled, or `f`
  /// throws. While there is such a callback the loop does not sleep, and virtual time stands still.
  /// Throws `errc::loop_closed`.
  template <class F>
  handle call_every(F&& f, source_location where = source_location::current());

  /// `what` itself: a coroutine runs from the moment it is called (asyncio's create_task wraps one
  /// that does not). A callable is called and its future returned; unless it is an lvalue, what it
  /// captured is kept until that is done.
  template <class T>
  future<T> create_task(future<T> what);
  template <class F>
    requires std::is_invocable_v<F&>
  auto create_task(F&& what);

  /// A promise bound to this loop.
  template <class T = void>
  promise<T> create_future(source_location where = source_location::current());

  /// Calls `f()` in the loop when the process receives `signal`, instead of what happened before.
  /// Throws `std::system_error` for signals that cannot be caught. Needs signals.hpp.
  template <class F>
  void add_signal_handler(int signal, F&& f, source_location where = source_location::current()) {
    static_assert(!detail::returns_coroutine<std::decay_t<F>>,
                  "a signal handler that returns a future would be cancelled as soon as it has "
                  "begun: have it call detach() on the future");
    set_signal_handler(signal, std::function<void()>(std::forward<F>(f)), where);
  }

  /// Back to the default action; false if there was no handler.
  bool remove_signal_handler(int signal) noexcept;

  /// Calls `f()` in a thread of `where`, or of the default executor, which has up to 32 threads and
  /// ends with the loop; a future of what it gives. Cancelling or dropping that keeps `f` from
  /// beginning, or lets it run and forgets the result. Fails with `errc::closed` if the executor has
  /// ended. Needs executor.hpp.
  template <class F>
  auto run_in_executor(F&& f);
  template <class F>
  auto run_in_executor(executor& where, F&& f);

  /// For the `run_in_executor` that name none from now on. It stays the program's: the end of the
  /// loop does not wait for what runs in it.
  void set_default_executor(executor& where);

  // -- I/O, each defined in the header it names

  /// Calls `f()` in every turn in which a descriptor can be read, or written to. Needs watch.hpp.
  template <class F>
  void add_reader(int fd, F&& f, source_location where = source_location::current());
  template <class F>
  void add_writer(int fd, F&& f, source_location where = source_location::current());
  bool remove_reader(int fd) noexcept;
  bool remove_writer(int fd) noexcept;

  /// Calls on a plain socket that wait instead of blocking. Needs sock.hpp.
  future<std::string> sock_recv(int fd, std::size_t most);
  template <class Bytes>
  future<std::size_t> sock_recv_into(int fd, Bytes&& into);
  future<received_datagram> sock_recvfrom(int fd, std::size_t most);
  template <class Bytes>
  future<> sock_sendall(int fd, const Bytes& data);
  template <class Bytes, class Endpoint>
  future<std::size_t> sock_sendto(int fd, const Bytes& data, const Endpoint& to);
  future<std::uint64_t> sock_sendfile(int fd, int file, std::uint64_t offset = 0,
                                      std::uint64_t count = ~std::uint64_t{0});
  template <class Endpoint>
  future<> sock_connect(int fd, const Endpoint& to);
  future<accepted_socket> sock_accept(int fd);

  /// The addresses of a host, looked up in the default executor. Needs resolve.hpp.
  template <class Options = resolve_options>
  future<std::vector<resolved_address>> getaddrinfo(std::string host, std::string service,
                                                    Options options = {});
  template <class Options = resolve_options>
  future<std::vector<resolved_address>> getaddrinfo(std::string host, std::uint16_t port,
                                                    Options options = {});

  /// The names of an endpoint, looked up in the default executor. Needs resolve.hpp.
  template <class Endpoint>
  future<resolved_name> getnameinfo(const Endpoint& where, int flags = 0);

  /// A stream that reads from, or writes to, a pipe, FIFO, terminal or file. Needs pipe.hpp.
  template <class Options = stream_options>
  future<stream> connect_read_pipe(int fd, Options options = {});
  template <class Options = stream_options>
  future<stream> connect_read_pipe(unique_fd fd, Options options = {});
  template <class Options = stream_options>
  future<stream> connect_write_pipe(int fd, Options options = {});
  template <class Options = stream_options>
  future<stream> connect_write_pipe(unique_fd fd, Options options = {});

  /// A connection, or a server's, and the protocol that is told of it. Needs connections.hpp.
  template <class Factory, class Where, class Options = connect_options>
  auto create_connection(Factory&& factory, const Where& where, Options options = {});
  template <class Factory, class Options = connect_options>
  auto create_unix_connection(Factory&& factory, std::string_view path, Options options = {});
  template <class Factory, class Where, class Options = server_options>
  future<server> create_server(Factory&& factory, const Where& where, Options options = {});
  template <class Factory, class Options = server_options>
  future<server> create_unix_server(Factory&& factory, std::string_view path, Options options = {});
  template <class Factory, class Descriptor>
    requires std::is_invocable_v<Factory&>
  auto connect_read_pipe(Factory&& factory, Descriptor fd);
  template <class Factory, class Descriptor>
    requires std::is_invocable_v<Factory&>
  auto connect_write_pipe(Factory&& factory, Descriptor fd);

  /// A datagram socket and the protocol that is told of it. Needs datagram_transport.hpp.
  template <class Factory, class Options = datagram_endpoint_options>
  auto create_datagram_endpoint(Factory&& factory, Options options = {});

  /// Starts a program: its name and arguments, then its options. Needs subprocess.hpp.
  template <class... Command>
  future<process> subprocess_exec(const Command&... command);
  template <class Options = subprocess_options>
  future<process> subprocess_shell(std::string_view command, Options options = {});

  /// Told of failures that nobody awaits; the default logs them as errors.
  void set_exception_handler(exception_handler f) {
    check_thread("set_exception_handler");
    on_failure_ = std::move(f);
  }
  void call_exception_handler(const failure_report& report) noexcept;

  /// Looks for faults while it runs, at some cost. A callback, or a coroutine between two awaits,
  /// that takes longer than `slow_callback_duration` is logged as a warning that names it. A future
  /// that is dropped while it is pending, or with a result that nobody has looked at, is reported to
  /// the exception handler. A call from the wrong thread ends the program, as it always does in a
  /// build without NDEBUG. It is on from the start if the environment variable PULSAR_DEBUG is set,
  /// and not to 0.
  void set_debug(bool on) noexcept;
  bool debug() const noexcept { return debug_; }

  /// The coroutines that have suspended and have not ended, the oldest first. Needs tasks.hpp.
  std::vector<task_info> tasks();

  /// 100 ms unless it was set.
  duration slow_callback_duration() const noexcept { return steps_.limit; }
  void set_slow_callback_duration(duration limit) noexcept { steps_.limit = limit; }

  /// Has a choice of `seed` decide in what order coroutines that are ready together go on, and
  /// callbacks between them. Callbacks keep the order in which they were asked for. The same seed
  /// gives the same order: with virtual time, a run that can be repeated.
  void set_seed(std::uint64_t seed) noexcept;

  /// What it runs on, for I/O objects of Asio.
  asio::io_context& context() noexcept { return context_; }
  /// The executor of that.
  asio::io_context::executor_type get_executor() noexcept { return context_.get_executor(); }

 private:
  friend class detail::loop_access;
  friend class detail::loop_inbox;
  friend struct detail::loop_alarm;
  friend struct detail::loop_data;

  class batch;
  class closing_run;

  void set_signal_handler(int signal, std::function<void()> f, source_location where);

  void enlist();

  void check_thread(const char* what) const noexcept {
    if (detail::always_checked || debug_) check_runner(what);
  }
  void check_runner(const char* what) const noexcept;
  [[noreturn]] static void throw_closed(const char* what) { throw error(errc::loop_closed, what); }

  void check_open(const char* what) const {
    check_thread(what);
    if (closed_) throw_closed(what);
  }

  // Throws unless `run_forever` may be called.
  void check_may_run(const char* what) const;

  void check_period(duration period) const;

  void push_ready(detail::task_node* node) noexcept {
    if (quick_) [[likely]] {
      ready_.push(node);
    } else {
      push_carefully(node);
    }
  }

  void push_carefully(detail::task_node* node) noexcept;
  void post(void (event_loop::*call)());
  void post_ready() noexcept;
  void on_ready();
  void on_inbox();
  void on_timer();
  void on_io(detail::continuation& waiter);
  void on_stop();
  void run_ready();
  void run_ready_carefully();
  void settle_births(tick now) noexcept;
  detail::task_node* pick_ready() noexcept;
  time_point refresh();
  void call_due(tick reached);
  void drop_extensions() noexcept;
  void finish_handlers(closing_run& run) noexcept;

  handle arm_after(detail::timed_callback_base* node, duration delay) noexcept;
  handle arm_at(detail::timed_callback_base* node, time_point when) noexcept;

  void timers_changed() noexcept {
    if (!quick_) timers_changed_carefully();
  }
  void timers_changed_carefully() noexcept;

  void finish_batch() noexcept;
  void arm(tick next) noexcept;
  bool cancel_all() noexcept;
  bool has_running_frames() const noexcept;
  void run_to_close(closing_run& run, duration limit) noexcept;
  void free_frames() noexcept;
  void let_go_of_states() noexcept;
  void drop_ready() noexcept;
};

}  // namespace pulsar

#include <pulsar/core/detail/event_loop.hpp>
#include <pulsar/core/detail/loop_close.hpp>
