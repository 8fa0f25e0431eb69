// SPDX-License-Identifier: Apache-2.0
/// One connection, below its handle: its queue pair, its credits, what is under way on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "core/handle.h"
#include "core/queue_pair.h"
#include "transport/hello.h"
#include "transport/send_ring.h"
#include "transport/wire.h"
#include "verbena/connection.h"
#include "verbena/error.h"

namespace verbena::transport {

class Engine;
class Channel;
class LargeArea;

/// Whoever speaks calls over a channel. The functions run in the loop's thread.
struct CallLayer {
  void* self = nullptr;
  /// `payload` is valid during it.
  void (*deliver)(void* self, Channel& channel, Kind kind, const CallHeader& call,
                  std::span<const std::byte> payload) = nullptr;
  /// The channel has drained: nothing touches any buffer of it any more. Last of all.
  void (*closed)(void* self, Channel& channel, std::error_code error, std::string_view why) = nullptr;
};

/// States: free → open → draining → free. Only Engine creates them; a place is reused, `serial` tells its
/// users apart.
///
/// Invariants: request-class messages sent never exceed what the peer has granted; replies sent never exceed
/// requests received; so the peer's receives never run out. Every Operation completes once: by its
/// completion, or when the queue pair has drained.
class Channel {
 public:
  enum class State : std::uint8_t { free, open, draining };

  Channel(Engine& engine, std::uint32_t index);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // ---- Life; called by the engine and the exchanges ----
  /// Both hellos are known and agree: brings the queue pair up. Throws Error.
  void open(core::QueuePair& queue_pair, const Hello& ours, const Hello& theirs, std::string peer_name,
            std::string path);
  /// Begins to end it; the first reason counts. Later, drained, everything completes with `error`.
  void fail(std::error_code error, std::string why) noexcept;
  /// Ends it once what was queued has left, or after a bounded time.
  void close() noexcept;
  /// The drain marker has completed.
  void on_drained() noexcept;

  // ---- Completions; called by the engine ----
  void on_message(const std::byte* buffer, std::size_t length, bool& keep_buffer);
  void on_sent(const ibv_wc& completion) noexcept;
  /// Posts what is queued.
  void flush() noexcept {
    if (!ring_.has_queued() || state_ != State::open) return;
    if (const int error = ring_.flush(queue_pair_->get())) [[unlikely]]
      fail_to_post(error);
  }
  void check_linger(std::int64_t now_ns) noexcept;

  // ---- Sending; errors as in verbena/connection.h ----
  std::error_code send_message(std::span<const std::byte> bytes, Operation* done) noexcept;
  std::error_code send_pieces(std::span<const Slice> pieces, Operation& done) noexcept;
  std::error_code send_request(CallHeader call, std::span<const std::byte> bytes) noexcept;
  /// Never short of a receive at the peer, nor of a buffer here: the caller answers a request that it has
  /// received.
  std::error_code send_reply(CallHeader call, std::span<const std::byte> bytes) noexcept;
  /// Takes back the peer's right to read the large request of call `slot`, if it has one.
  void revoke_request(std::uint32_t slot) noexcept;
  std::error_code put(const Slice& from, const RemoteRegion& to, std::uint64_t offset,
                      Operation& done) noexcept;
  std::error_code get(const Slice& into, const RemoteRegion& from, std::uint64_t offset,
                      Operation& done) noexcept;
  std::error_code atomic(ibv_wr_opcode opcode, const Slice& former, const RemoteRegion& at,
                         std::uint64_t offset, std::uint64_t compare_add, std::uint64_t swap,
                         Operation& done) noexcept;

  // ---- What it is ----
  State state() const noexcept { return state_; }
  bool is_open() const noexcept { return state_ == State::open; }
  /// close() was called: what was queued still leaves, but its handlers aren't run any more.
  bool is_closing() const noexcept { return linger_until_ != 0; }
  std::uint32_t serial() const noexcept { return serial_; }
  std::uint32_t index() const noexcept { return index_; }
  Engine& engine() noexcept { return engine_; }
  const std::string& peer_name() const noexcept { return peer_name_; }
  std::uint32_t queue_pair_number() const noexcept { return queue_pair_ ? queue_pair_->number() : 0; }
  std::uint32_t call_depth() const noexcept { return theirs_.call_depth; }
  std::uint32_t eager_size() const noexcept { return theirs_.eager_size; }
  std::string explain() const;
  std::string explain(std::size_t bytes) const;

  // ---- Its users ----
  Handler<void(std::span<const std::byte>)> message_handler;
  Handler<void(std::error_code, std::string_view)> closed_handler;
  CallLayer calls;
  /// Runs before the first message is looked at: a peer that speaks is connected, whatever the exchange has
  /// heard yet.
  std::function<void()> on_first_word;
  /// Keeps the exchange's socket or rdma_cm id, whose end is the peer's end; closed with the channel.
  std::shared_ptr<void> lifeline;
  /// Set where the lifeline has to be told: closes it.
  std::function<void()> close_lifeline;

 private:
  // channel.cc
  /// Whether a message of the request class may be sent, and why not.
  bool may_request() const noexcept {
    return accepts_ && requests_sent_ != granted_by_peer_ && ring_.size() < request_limit_;
  }
  std::error_code why_no_request() const noexcept;
  MessageHeader header(Kind kind, std::uint32_t token) const noexcept {
    return {kind, 0, epoch_, granted_, token, 0};
  }
  /// Queues one eager message, inline or copied. `call`: of kinds that have one; `pool`: where a buffer comes
  /// from. errc{} where all is well.
  errc queue_eager(Kind kind, std::uint32_t token, CallHeader call, std::span<const std::byte> body,
                   core::BufferPool& pool, Operation* done) noexcept;
  /// Whether a one-sided operation may be started, and why not.
  bool may_reach(const Slice& local, const RemoteRegion& remote, std::uint64_t offset) const noexcept {
    return accepts_ && ring_.size() < one_sided_limit_ && local.length < 1u << 31 &&
           offset <= remote.length && local.length <= remote.length - offset;
  }
  std::error_code why_not_reach() const noexcept;
  SendSlot& one_sided(ibv_wr_opcode opcode, const Slice& local, Operation& done) noexcept;
  /// Queues what the ring's next slot was filled with.
  void queue() noexcept;
  void fail_to_post(int error) noexcept;
  void complete_up_to(std::uint32_t count) noexcept;
  void note_grant(std::uint32_t granted) noexcept;
  void tell_grant_if_due() noexcept;
  void deliver(Kind kind, std::span<const std::byte> body);
  bool owe_reply() noexcept;
  void violation(const char* what) noexcept;
  void finish() noexcept;

  // channel_large.cc
  struct Outgoing {  // a large message that the peer has been told of
    core::Handle<ibv_mr> registration;
    Operation* operation = nullptr;
    std::byte* owned = nullptr;  // in the engine's area for replies
    std::size_t length = 0;
    std::uint32_t generation = 0;
    std::uint32_t slot = 0;
    bool is_request = false;
    bool in_use = false;
  };
  struct Incoming : Operation {  // one that is being read
    Channel* channel = nullptr;
    Kind kind{};
    CallHeader call{};
    LargeBody body{};
    std::uint32_t token = 0;
    std::byte* memory = nullptr;
    bool in_use = false;
    bool read = false;
  };
  struct Ordered {  // a message that waits for one before it
    Incoming* large;
    const std::byte* buffer;
    std::size_t length;
  };
  std::error_code send_large(Kind kind, CallHeader call, std::span<const std::byte> bytes, Operation* done,
                             std::byte* owned, std::uint32_t key) noexcept;
  void take_large(Kind kind, const CallHeader& call, const LargeBody& body, std::uint32_t token);
  LargeArea& area_of(Kind kind) noexcept;
  bool send_large_reply(const CallHeader& call, std::span<const std::byte> bytes) noexcept;
  void send_waiting_replies() noexcept;
  bool begin_read(Incoming& incoming) noexcept;
  static void read_done(Operation* self, std::error_code error, std::size_t bytes) noexcept;
  void finish_read(Incoming& incoming);
  void begin_waiting_reads() noexcept;
  void deliver_ordered();
  void take_release(std::uint32_t token) noexcept;
  void release(Outgoing& outgoing, std::error_code error) noexcept;
  void abandon_large(std::error_code error) noexcept;

  Engine& engine_;
  const std::uint32_t index_;
  std::uint32_t serial_ = 1;
  State state_ = State::free;
  core::QueuePair* queue_pair_ = nullptr;
  Hello ours_;
  Hello theirs_;
  std::uint16_t epoch_ = 0;
  std::uint32_t inline_limit_ = 0;
  bool accepts_ = false;   // open, and not closing: the program may start what it likes
  bool dirty_ = false;     // in the engine's list of channels to flush
  bool reserved_ = false;  // for a connection that is being made
  friend class Engine;

  // Credits, cumulative modulo 2^32.
  std::uint32_t granted_by_peer_ = 0;
  std::uint32_t requests_sent_ = 0;
  std::uint32_t requests_received_ = 0;
  std::uint32_t granted_ = 0;       // what the peer may send in all
  std::uint32_t grant_told_ = 0;    // what it has been told
  std::uint32_t replies_owed_ = 0;  // requests received and not answered

  const std::uint32_t request_limit_;    // the same for messages and requests
  const std::uint32_t one_sided_limit_;  // of entries in the ring, when one more is started
  const std::uint32_t eager_limit_;      // of entries in the ring, when a message is queued
  SendRing ring_;
  std::vector<Outgoing> outgoing_;
  std::vector<std::unique_ptr<Incoming>> incoming_;
  struct WaitingReply {
    CallHeader call;
    std::vector<std::byte> bytes;
  };
  std::deque<Incoming*> waiting_reads_;        // messages and requests
  std::deque<Incoming*> waiting_reply_reads_;  // apart: requests can't stop replies
  std::deque<WaitingReply> waiting_replies_;   // large ones of ours: for a place or for memory
  std::deque<Ordered> ordered_;

  std::error_code error_;
  std::string why_;
  std::string peer_name_;
  std::string path_;
  std::int64_t linger_until_ = 0;  // ns; 0: not closing
};

}  // namespace verbena::transport
