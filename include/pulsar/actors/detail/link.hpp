// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The direct line between two processes of a program: a Unix stream pair that carries commands and
// outcomes as frames.
//
// A frame is sixteen bytes of head and at most 64 KiB of payload; a longer message is cut, and its
// pieces go between the others. Both ends are the same program on the same machine, so the heads
// are in its own byte order; arguments and values are MessagePack. Nothing that arrives is trusted:
// a bad frame closes the link with a sentence in the log.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/actors/detail/failure.hpp>
#include <pulsar/actors/detail/line.hpp>
#include <pulsar/actors/detail/local_actors.hpp>
#include <pulsar/actors/detail/number_map.hpp>
#include <pulsar/actors/registry.hpp>
#include <pulsar/core/buffer.hpp>
#include <pulsar/core/codec.hpp>
#include <pulsar/core/descriptor.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pulsar::detail {

template <>
inline constexpr bool codec::own_record<remote_failure> = true;

enum class frame_kind : std::uint8_t { ask = 1, tell = 2, reply = 3 };

struct frame_head {
  std::uint32_t size = 0;  // of the payload in this frame
  std::uint8_t kind = 0;
  std::uint8_t more = 0;  // 1: another piece follows
  std::uint16_t reserved = 0;
  std::uint64_t id = 0;  // of the ask, in both directions; of the message for a tell
};
static_assert(sizeof(frame_head) == 16);

inline constexpr std::size_t largest_frame = std::size_t{64} << 10;
inline constexpr std::size_t largest_message = std::size_t{64} << 20;
inline constexpr std::size_t most_unsent = std::size_t{128} << 20;  // what a slow peer may leave
// Failures tell a slow peer so above that; beyond this it is not served any more.
inline constexpr std::size_t most_unsent_failures = most_unsent + most_unsent / 8;
inline constexpr std::size_t longest_command = 4096;                // bytes of its name
inline constexpr int most_writes = 16;  // at a time, of a frame or more each

/// What stands before the arguments of a command.
struct command_head {
  std::uint64_t target = 0;
  std::int64_t deadline = 0;  // of this machine's monotonic clock; the greatest value: none
  std::uint32_t name_size = 0;
  std::uint32_t reserved = 0;
};

/// Cuts a stream into messages. Knows nothing of sockets, so that it can be fed by a fuzzer.
class frame_reader {
 public:
  frame_reader() noexcept = default;
  frame_reader(const frame_reader&) = delete;
  frame_reader& operator=(const frame_reader&) = delete;
  ~frame_reader() {
    while (piece* p = pieces_) {
      pieces_ = p->next;
      delete p;
    }
  }

  /// There until the next call.
  struct message {
    frame_kind kind{};
    std::uint64_t id = 0;
    std::span<const std::byte> payload;
  };

  /// The next whole message of `in`, taken out of it; null if there is none yet. Throws
  /// `errc::malformed` and `errc::too_large`.
  const message* next(buffer& in) {
    whole_.clear();
    for (;;) {
      in.consume(taken_);
      taken_ = 0;
      if (in.size() < sizeof(frame_head)) return nullptr;
      frame_head head;
      std::memcpy(&head, in.data(), sizeof(head));
      check(head);
      if (in.size() < sizeof(head) + head.size) return nullptr;
      taken_ = sizeof(head) + head.size;
      message_ = {static_cast<frame_kind>(head.kind), head.id,
                  {in.data() + sizeof(head), head.size}};
      piece** begun = find(head);
      if (*begun == nullptr && head.more == 0) return &message_;
      auto& message_so_far = *begun == nullptr ? begin(head) : **begun;
      if (held_ + head.size > largest_message) {
        throw error(errc::too_large, "messages in pieces of over 64 MiB");
      }
      held_ += head.size;
      message_so_far.bytes.append(message_.payload);
      if (head.more != 0) continue;
      held_ -= message_so_far.bytes.size();
      whole_ = std::move(message_so_far.bytes);
      message_.payload = whole_.readable();
      *begun = message_so_far.next;
      delete &message_so_far;
      --piece_count_;
      return &message_;
    }
  }

  /// How many bytes of the next frame are known to be missing; 0 if unknown.
  std::size_t missing(const buffer& in) const noexcept {
    if (in.size() < taken_ + sizeof(frame_head)) return 0;
    frame_head head;
    std::memcpy(&head, in.data() + taken_, sizeof(head));
    const std::size_t whole = sizeof(head) + head.size;
    return in.size() - taken_ < whole ? whole - (in.size() - taken_) : 0;
  }

 private:
  struct piece {
    std::uint8_t kind;
    std::uint64_t id;
    buffer bytes;
    piece* next;
  };
  static constexpr std::size_t most_pieces = 1024;

  static void check(const frame_head& head) {
    if (head.size > largest_frame) {
      throw error(errc::too_large,
                  fmt::format("a frame of {} bytes; at most {} are allowed", head.size,
                              largest_frame));
    }
    if (head.kind < 1 || head.kind > 3 || head.more > 1 || head.reserved != 0) {
      throw error(errc::malformed, fmt::format("a frame of kind {} with flags {}", head.kind,
                                               head.more));
    }
    if (head.more != 0 && head.size == 0) throw error(errc::malformed, "an empty piece");
  }

  // What leads to the message that has begun, or to null.
  piece** find(const frame_head& head) noexcept {
    piece** at = &pieces_;
    while (*at != nullptr && ((*at)->kind != head.kind || (*at)->id != head.id)) at = &(*at)->next;
    return at;
  }
  piece& begin(const frame_head& head) {
    if (piece_count_ >= most_pieces) throw error(errc::too_large, "too many messages in pieces");
    pieces_ = new piece{head.kind, head.id, {}, pieces_};
    ++piece_count_;
    return *pieces_;
  }

  std::size_t taken_ = 0;
  std::size_t held_ = 0;
  piece* pieces_ = nullptr;
  std::size_t piece_count_ = 0;
  message message_;
  buffer whole_;
};

/// A failure of pulsar's own.
inline remote_failure failure_of(errc code, std::string sentence) {
  return {"pulsar::error", "pulsar", static_cast<int>(code), std::move(sentence)};
}

/// Ends a command that cannot be sent: its sender, or for a tell the log, learns why.
inline void refuse(std::string_view command, const wire_sink& sink, const remote_failure& why) {
  if (sink) return sink({{}, why});
  log::warning("a tell of '{}' failed: {}", command.substr(0, most_shown), why.text);
}

/// One end of the line. Belongs to its loop's thread.
class link final : public line {
 public:
  /// Why a line is no more.
  enum class ending {
    closed,  // by the other process, which has most likely ended
    broken,  // what came is no frame, or the system reports an error
  };

  /// Whoever has to know how the line has ended.
  class owner {
   public:
    /// Called once, when every complete frame has been delivered; the owner then says
    /// `fail_pending`.
    virtual void on_closed(link& which, ending how, const std::string& reason) = 0;

   protected:
    ~owner() = default;
  };

  /// `o` may be null.
  link(event_loop& loop, unique_fd fd, std::uint64_t peer, owner* o)
      : line(loop, fd.get()), peer_(peer), owner_(o), way_back_(new way_back(*this)) {
    static_cast<void>(fd.release());
  }
  ~link() override {
    way_back_->to = nullptr;
    while (!turns_.empty()) delete static_cast<outgoing*>(turns_.pop());
    while (!later_.empty()) delete static_cast<outgoing*>(later_.pop());
    fail_pending(fmt::format("the link to process {} was dropped", peer_));
  }

  /// The process at the other end.
  std::uint64_t peer() const noexcept { return peer_; }

  /// Begins to read.
  void start() { begin_to_read(); }

  /// Sends a command; its outcome goes to `sink`, or, for a tell, nowhere.
  void post(std::uint64_t target, std::string_view command, const buffer& arguments,
            event_loop::time_point deadline, wire_sink&& sink) {
    const std::size_t size = sizeof(command_head) + command.size() + arguments.size();
    const remote_failure why = refusal(command, size);
    if (!why.type.empty()) return refuse(command, sink, why);
    command_head head;
    head.target = target;
    head.deadline = deadline.time_since_epoch().count();
    head.name_size = static_cast<std::uint32_t>(command.size());
    frame_head frame;
    frame.id = ++last_id_;
    frame.kind = static_cast<std::uint8_t>(sink ? frame_kind::ask : frame_kind::tell);
    if (sink) sinks_.insert(frame.id, new pending(std::move(sink)));
    write(frame, bytes_of(&head, sizeof(head)), bytes_of(command.data(), command.size()),
          arguments.readable());
  }

  /// Writes what is queued, as far as the peer takes it now; the loop has others to serve too.
  void flush() override {
    for (int i = 0; open_ && !waiting_ && refill(); ++i) {
      if (i == most_writes) return schedule_flush();
      const auto n = ::send(descriptor_.native_handle(), out_.data(), out_.size(),
                            MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) {
        out_.consume(static_cast<std::size_t>(n));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        wait_writable();
      } else if (errno != EINTR) {
        return;  // the reader sees the end, after what the peer had sent
      }
    }
  }

  /// Is all written?
  bool drained() const noexcept { return unsent() == 0; }

  /// Ends every send that waits for an outcome with `errc::actor_gone` and this sentence.
  void fail_pending(const std::string& sentence) {
    pending* failed = nullptr;
    std::size_t at = 0;
    while (auto* p = sinks_.next(at)) {
      p->next_failed = failed;
      failed = p;
    }
    sinks_.clear();
    while (failed != nullptr) {
      pending* p = failed;
      failed = p->next_failed;
      const wire_sink sink = std::move(p->sink);
      delete p;
      sink({{}, failure_of(errc::actor_gone, sentence)});
    }
  }

  /// Ends the line; its owner is told nothing.
  void close() {
    open_ = false;
    owner_ = nullptr;
    std::error_code ignored;
    descriptor_.close(ignored);
  }

 private:
  struct outgoing : task_node {
    outgoing() noexcept : task_node(nullptr) {}
    frame_head head;
    std::size_t size = 0;  // of the whole message
    buffer bytes;          // what is left of it
  };
  static outgoing& front(const task_queue& q) noexcept {
    return *static_cast<outgoing*>(q.front());
  }

  // A sent command whose outcome is awaited.
  struct pending : recycled {
    explicit pending(wire_sink&& s) noexcept : sink(std::move(s)) {}
    wire_sink sink;
    pending* next_failed = nullptr;
  };

  // Leads outcomes back to the line, from any thread, for as long as that is there.
  struct way_back final : outcome_receiver {
    explicit way_back(link& l) : loop(&l.loop_), inbox(loop_access::inbox(l.loop_)), to(&l) {}

    void receive(std::uint64_t id, wire_outcome&& outcome) override {
      if (event_loop::running() == loop) {
        if (to != nullptr) to->send_outcome(id, std::move(outcome));
        return;
      }
      auto* one = new late_outcome(*this, id, std::move(outcome));
      if (!inbox->push(one)) delete one;
    }

    event_loop* loop;
    const counted_pointer<loop_inbox> inbox;
    link* to;
  };

  // An outcome from another thread, on its way to the loop.
  struct late_outcome : task_node, recycled {
    late_outcome(way_back& w, std::uint64_t i, wire_outcome&& o) noexcept
        : task_node(&run), way(share(w)), id(i), outcome(std::move(o)) {}
    static void run(task_node* node, bool drop) {
      auto* self = static_cast<late_outcome*>(node);
      link* to = self->way->to;
      if (!drop && to != nullptr) to->send_outcome(self->id, std::move(self->outcome));
      delete self;
    }
    counted_pointer<way_back> way;
    std::uint64_t id;
    wire_outcome outcome;
  };

  static std::span<const std::byte> bytes_of(const void* first, std::size_t size) noexcept {
    return {static_cast<const std::byte*>(first), size};
  }

  // Why a command cannot be sent; no failure if it can.
  remote_failure refusal(std::string_view command, std::size_t size) const {
    if (!open_) {
      return failure_of(errc::actor_gone, fmt::format("the link to process {} is closed", peer_));
    }
    if (command.size() > longest_command) {
      return failure_of(errc::unknown_command,
                     fmt::format("a name of {} bytes is no command's", command.size()));
    }
    if (size > largest_message) {
      return failure_of(errc::too_large,
                     fmt::format("the arguments of '{}' take {} bytes, at most {} travel", command,
                                 size, largest_message));
    }
    if (unsent() + size > most_unsent) {
      return failure_of(errc::mailbox_full,
                     fmt::format("process {} has not read {} bytes yet", peer_, unsent()));
    }
    return {};
  }

  void send_outcome(std::uint64_t id, wire_outcome&& outcome) {
    if (!open_) return;
    frame_head frame;
    frame.id = id;
    frame.kind = static_cast<std::uint8_t>(frame_kind::reply);
    const std::size_t size = outcome.value.size() + 1;
    if (outcome.failure.type.empty() && size > largest_message) {
      outcome.failure =
          failure_of(errc::too_large, fmt::format("the result takes {} bytes, at most {} travel",
                                                  size, largest_message));
    } else if (outcome.failure.type.empty() && unsent() + size > most_unsent) {
      outcome.failure =
          failure_of(errc::mailbox_full,
                     fmt::format("the sender has not read {} bytes of results yet", unsent()));
    }
    const std::byte failed{!outcome.failure.type.empty()};
    if (failed != std::byte{}) {
      outcome.value.clear();
      encode(outcome.value, outcome.failure);
      if (unsent() + outcome.value.size() > most_unsent_failures) return give_up();
    }
    write(frame, bytes_of(&failed, 1), outcome.value.readable());
  }

  // The peer asks and does not read.
  void give_up() {
    open_ = false;
    how_ = ending::broken;
    reason_ = fmt::format("it has not read {} bytes of results", unsent());
    log::error("the link to process {} is closed: {}", peer_, reason_);
    descriptor_.cancel();
  }

  void write(frame_head head, std::span<const std::byte> first, std::span<const std::byte> second,
             std::span<const std::byte> third = {}) {
    const std::size_t size = first.size() + second.size() + third.size();
    outgoing* large = nullptr;
    if (size <= largest_frame) {
      head.size = static_cast<std::uint32_t>(size);
      out_.append(bytes_of(&head, sizeof(head)));
    } else {
      large = new outgoing;
      large->head = head;
      large->size = size;
    }
    buffer& to = large != nullptr ? large->bytes : out_;
    to.append(first);
    to.append(second);
    to.append(third);
    if (large != nullptr) {
      large_bytes_ += size;
      later_.push(large);
    }
    schedule_flush();
  }

  // What this turn of the loop sends goes out in one write.
  void schedule_flush() {
    if (flushing_) return;
    flushing_ = share(*this);
    loop_access::push_ready(loop_, &flush_);
  }

  // Makes sure that there is something to write; false if there is nothing. Large messages take
  // turns, a piece each; all those whose first piece is out fit into what the reader puts together.
  bool refill() {
    if (!out_.empty()) return true;
    while (!later_.empty() &&
           (turns_.empty() || turns_size_ + front(later_).size <= largest_message)) {
      turns_size_ += front(later_).size;
      turns_.push(later_.pop());
    }
    if (turns_.empty()) return false;
    auto* large = static_cast<outgoing*>(turns_.pop());
    const std::size_t n = std::min(large->bytes.size(), largest_frame);
    large->head.size = static_cast<std::uint32_t>(n);
    large->head.more = n < large->bytes.size();
    out_.append(bytes_of(&large->head, sizeof(frame_head)));
    out_.append(large->bytes.readable().first(n));
    large->bytes.consume(n);
    large_bytes_ -= n;
    if (large->head.more != 0) {
      turns_.push(large);
    } else {
      turns_size_ -= large->size;
      delete large;
    }
    return true;
  }

  std::size_t unsent() const noexcept { return out_.size() + large_bytes_; }

  void on_end() override {
    in_ = {};
    ::shutdown(descriptor_.native_handle(), SHUT_RDWR);
    if (owner_ != nullptr) {
      std::exchange(owner_, nullptr)->on_closed(*this, how_, reason_);
    } else {
      fail_pending(fmt::format("the link to process {} was closed here", peer_));
    }
  }

  bool receive() override {
    const auto room = in_.prepare(std::max(largest_frame / 4, frames_.missing(in_)));
    const auto n = ::recv(descriptor_.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return true;
    // The peer ended without reading all of ours: Linux says so when all of its own is read.
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return false;
    try {
      if (n < 0) throw_system_error(errno, "cannot read");
      in_.commit(static_cast<std::size_t>(n));
      while (const auto* message = frames_.next(in_)) dispatch(*message);
      return true;
    } catch (const std::exception& e) {
      how_ = ending::broken;
      reason_ = e.what();
      log::error("the link to process {} is closed, for what came is no message: {}", peer_,
                 reason_);
      return false;
    }
  }

  void dispatch(const frame_reader::message& m) {
    if (m.kind == frame_kind::reply) return settle(m.id, m.payload);
    command_head head;
    if (m.payload.size() < sizeof(head)) throw error(errc::malformed, "a command without a head");
    std::memcpy(&head, m.payload.data(), sizeof(head));
    const auto rest = m.payload.subspan(sizeof(head));
    if (head.name_size > rest.size() || head.name_size > longest_command || head.reserved != 0) {
      throw error(errc::malformed, "a command without its name");
    }
    const std::string_view name(reinterpret_cast<const char*>(rest.data()), head.name_size);
    wire_sink sink;
    if (m.kind == frame_kind::ask) sink = wire_sink(*way_back_, m.id);
    const auto target = registry::instance().find(head.target);
    auto* cell = ref_access::cell(target);
    if (cell == nullptr || !cell->local()) {
      if (sink) {
        sink({{}, failure_of(errc::actor_gone,
                             fmt::format("no actor {:#x} lives in process {}", head.target,
                                         registry::instance().process()))});
      }
      return;
    }
    buffer arguments;
    arguments.append(rest.subspan(head.name_size));
    cell->post_encoded(name, std::move(arguments),
                       event_loop::time_point(event_loop::duration(head.deadline)),
                       std::move(sink));
  }

  void settle(std::uint64_t id, std::span<const std::byte> payload) {
    if (payload.empty()) throw error(errc::malformed, "an empty outcome");
    const auto* waiting = sinks_.find(id);
    if (waiting == nullptr) return;  // it is not of ours
    wire_outcome outcome;
    if (payload[0] == std::byte{0}) {
      outcome.value.append(payload.subspan(1));
    } else if (const auto bad = try_decode(payload.subspan(1), outcome.failure)) {
      throw bad.to_error();
    }
    sinks_.erase(id);
    waiting->sink(std::move(outcome));
    delete waiting;
  }

  struct flush_node : task_node {
    explicit flush_node(link& l) noexcept : task_node(&run), of(l) {}
    static void run(task_node* node, bool drop) {
      const auto self = std::move(static_cast<flush_node*>(node)->of.flushing_);
      if (!drop) self->flush();
    }
    link& of;
  };

  std::uint64_t peer_;
  owner* owner_;
  const counted_pointer<way_back> way_back_;
  buffer in_;
  frame_reader frames_;
  ending how_ = ending::closed;
  std::string reason_ = "it has closed its end";
  counted_pointer<link> flushing_;  // itself, while `flush_` is queued
  buffer out_;
  task_queue turns_;              // large messages of which a piece is out
  task_queue later_;              // those that wait for their first turn
  std::size_t turns_size_ = 0;    // of the whole messages in `turns_`
  std::size_t large_bytes_ = 0;   // what is left of all of them
  std::uint64_t last_id_ = 0;
  number_map<pending> sinks_;
  flush_node flush_{*this};
};

}  // namespace pulsar::detail
