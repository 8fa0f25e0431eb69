// SPDX-License-Identifier: Apache-2.0
/// One connection, below its handle: its queue pair, its credits, what is under way on it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "core/handle.h"
#include "core/lending.h"
#include "core/queue_pair.h"
#include "transport/exposure.h"
#include "transport/frame.h"
#include "transport/hello.h"
#include "transport/payload.h"
#include "transport/reply_window.h"
#include "transport/send_ring.h"
#include "transport/wire.h"
#include "verbena/connection.h"
#include "verbena/error.h"

namespace verbena::transport {

class Engine;
class Channel;
class LargeArea;

/// Where a large reply is to be read to.
enum class Place : std::uint8_t {
  anywhere,  ///< memory of the loop's
  there,     ///< memory that the caller has named
  nowhere,   ///< nobody waits for it
};

/// Whoever speaks calls over a channel. The functions run in the loop's thread.
struct CallLayer {
  void* self = nullptr;
  /// `payload` is valid during it.
  void (*deliver)(void* self, Channel& channel, Kind kind, const CallHeader& call,
                  std::span<const std::byte> payload) = nullptr;
  /// Asked when a large reply of `length` bytes has come. `into`: Place::there, at least that long. It is
  /// touched until deliver() runs, or revoke_call().
  Place (*place)(void* self, const CallHeader& call, std::size_t length,
                 std::span<std::byte>& into) = nullptr;
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
  using Bytes = Payload::Bytes;

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
  void on_message(const std::byte* frame, std::size_t length);
  void on_sent(const ibv_wc& completion) noexcept;
  /// Posts what is queued.
  void flush() noexcept {
    if (!ring_.has_queued() || state_ != State::open) return;
    close_frame();
    post();
  }
  void check_linger(std::int64_t now_ns) noexcept;
  /// Called once a keep-alive interval. Quiet: nothing has arrived or completed since the last call.
  void probe_if_quiet() noexcept;

  // ---- Sending; errors as in verbena/connection.h, errc{} where all is well ----
  std::error_code send_message(std::span<const std::byte> bytes, Operation* done) noexcept;
  std::error_code send_pieces(std::span<const Slice> pieces, Operation& done) noexcept;
  errc send_request(const CallHeader& call, Bytes bytes, std::span<const Bytes> more = {}) noexcept {
    return send_credited(Kind::request, call, bytes, more);
  }
  /// Requests and messages queued since the connection was made: right after send_request(), the number of
  /// that one.
  std::uint64_t requests_sent() const noexcept { return requests_sent_; }
  /// Whether the request of this number has been handed to the device. From then on only its reply tells
  /// whether it has run.
  bool was_posted(std::uint64_t request) const noexcept { return request <= requests_posted_; }
  /// Never short of a receive at the peer, nor of a buffer here: the caller answers a request that it has
  /// received.
  errc send_reply(const CallHeader& call, Bytes bytes, std::span<const Bytes> more = {}) noexcept;
  /// One part of the stream that `window` is of. no_credit: the caller takes none now; or as send_request().
  errc send_part(ReplyWindow& window, Bytes bytes) noexcept;
  /// Lets the server write `count` further parts of the stream that call `slot` is, or none any more (-1).
  errc send_more(std::uint32_t slot, std::uint32_t generation, std::int32_t count) noexcept;
  bool has_credit() const noexcept { return may_request(); }
  void add_window(ReplyWindow& window) { windows_.push_back(&window); }
  void remove_window(ReplyWindow& window) noexcept { std::erase(windows_, &window); }
  /// Keeps the bytes of the request that is being delivered: their place goes to the caller, until
  /// release_request(). `part` of them moves with them, where they are lent. False: it can't be kept any
  /// more.
  struct CallKey {
    std::uint32_t slot;
    std::uint32_t generation;
    bool operator==(const CallKey&) const = default;
  };
  bool hold_request(const CallKey& call, Bytes& part, const std::byte*& receive, std::byte*& range,
                    std::size_t& length) noexcept;
  /// `serial`: of the channel when it was held; also once that has ended.
  void release_request(std::uint32_t serial, const std::byte* receive, std::byte* range,
                       std::size_t length) noexcept;
  /// Call `slot` is given up: the peer can't read its large request any more, and no reply is read into the
  /// place that it has named. Who is in the middle of that loses the connection. False: it isn't done yet,
  /// and is to be asked for again, or until the channel has drained. Whoever reads a request that is lent to
  /// him has a second's time; and where other operations use the same memory, the connection ends with the
  /// call.
  bool revoke_call(std::uint32_t slot) noexcept;
  /// The same at once; operations that read to the same place fail.
  void revoke_call_now(std::uint32_t slot) noexcept;
  std::error_code put(const Slice& from, const RemoteRegion& to, std::uint64_t offset,
                      Operation& done) noexcept;
  std::error_code get(const Slice& into, const RemoteRegion& from, std::uint64_t offset,
                      Operation& done) noexcept;
  /// Of memory that is registered for the operation: see Connection.
  std::error_code put(Bytes from, const RemoteRegion& to, std::uint64_t offset, Operation& done) noexcept;
  std::error_code get(std::span<std::byte> into, const RemoteRegion& from, std::uint64_t offset,
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
  /// In a forked child, inside fork(): nobody reaches it any more.
  void leave_to_parent() noexcept {
    ++serial_;
    accepts_ = false;
    state_ = State::draining;  // also for those who know it without its serial
  }
  std::uint32_t index() const noexcept { return index_; }
  Engine& engine() noexcept { return engine_; }
  const std::string& peer_name() const noexcept { return peer_name_; }
  std::uint32_t queue_pair_number() const noexcept { return queue_pair_ ? queue_pair_->number() : 0; }
  std::uint32_t call_depth() const noexcept { return theirs_.call_depth; }
  /// Bytes: what whoever waits for its end has copied; longer ones are read.
  std::size_t copy_limit() const noexcept { return copy_limit_; }
  /// Pieces that a message over the eager size may have: their places have to fit into an eager one.
  std::size_t most_large_pieces() const noexcept {
    return std::min<std::size_t>(max_large_pieces, theirs_.eager_size / sizeof(LargeBody));
  }
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
  // channel_send.cc
  /// Whether a message of the request class may be sent, and why not.
  bool may_request() const noexcept {
    return accepts_ && credit_used() != granted_by_peer_ && ring_.size() < request_limit_;
  }
  errc why_no_request() const noexcept;
  errc send_credited(Kind kind, const CallHeader& call, Bytes bytes, std::span<const Bytes> more) noexcept;
  std::uint32_t credit_used() const noexcept { return static_cast<std::uint32_t>(requests_sent_); }
  MessageHeader header(Kind kind, std::uint32_t token, const core::Loan* loan = nullptr) const noexcept {
    return {kind, loan ? lent_flag : std::uint8_t{0}, epoch_, granted_, token, loan ? loan->generation : 0};
  }
  /// Queues one eager message, inline or copied. `call`: of kinds that have one; `pool`: where a buffer comes
  /// from. errc{} where all is well.
  errc queue_eager(Kind kind, std::uint32_t token, const CallHeader& call, const Payload& body,
                   core::BufferPool& pool, Operation* done, const core::Loan* loan = nullptr) noexcept;
  /// Adds it to the open frame. False, and nothing done, where it can't.
  bool join_frame(Kind kind, const CallHeader& call, Bytes body) noexcept;
  bool join_frame(Kind kind, const CallHeader& call, const Payload& body, core::BufferPool& pool) noexcept;
  bool grow_frame(core::BufferPool& pool) noexcept;
  void close_frame() noexcept {
    if (!frame_.is_open()) return;
    if (frame_.joined() > 0 || grant_told_ != granted_ || frame_.has_release()) finish_frame();
    frame_.close();
  }
  void finish_frame() noexcept;
  /// Whether a one-sided operation may be started, and why not.
  bool may_reach(const Slice& local, const RemoteRegion& remote, std::uint64_t offset) const noexcept {
    return accepts_ && ring_.size() < one_sided_limit_ && local.length < 1u << 31 &&
           offset <= remote.length && local.length <= remote.length - offset;
  }
  std::error_code why_not_reach() const noexcept;
  std::error_code reach_pinned(ibv_wr_opcode opcode, Bytes bytes, const RemoteRegion& remote,
                               std::uint64_t offset, Operation& done) noexcept;
  SendSlot& one_sided(ibv_wr_opcode opcode, const Slice& local, Operation& done) noexcept;
  /// Queues what the ring's next slot was filled with.
  void queue() noexcept;
  void post() noexcept {
    if (has_pinned_) [[unlikely]]
      confirm_pinned();
    requests_posted_ = requests_sent_;
    if (const int error = ring_.flush(queue_pair_->get())) [[unlikely]]
      fail_to_post(error);
  }
  void confirm_pinned() noexcept;
  /// A write of no bytes: it touches no memory of the peer's, and completes behind all before it.
  void queue_empty_write(Operation* done) noexcept;
  void fail_to_post(int error) noexcept;

  // channel_receive.cc
  void complete_up_to(std::uint32_t count) noexcept;
  void note_grant(std::uint32_t granted) noexcept;
  /// The grant grows as receives come back; the peer hears of it on our next message, or by a message of its
  /// own once half the window has been used.
  void tell_grant_if_due() noexcept {
    if (granted_ - grant_told_ >= ours_.request_depth / 2u && state_ == State::open) [[unlikely]]
      tell_grant();
  }
  void tell_grant() noexcept;
  void take_records(const MessageHeader& header, std::span<const std::byte> frame);
  void take_record(Kind kind, const MessageHeader& frame, std::span<const std::byte> body);
  void take_call(Kind kind, std::span<const std::byte> body);
  void take_bytes(std::span<const std::byte> body);
  void take_more(const CallHeader& call) noexcept;
  void deliver_request(const CallHeader& call, std::span<const std::byte> body);
  /// Our sends have room for so many replies and no more.
  bool owe_reply() noexcept {
    if (replies_owed_ == ours_.call_depth) [[unlikely]] {
      violation("more calls at once than may wait for their replies");
      return false;
    }
    ++replies_owed_;
    return true;
  }

  // channel.cc
  void violation(const char* what) noexcept;
  void finish() noexcept;

  // channel_large.cc
  struct Outgoing {  // a large message that the peer has been told of
    std::array<Exposure, max_large_pieces> exposures;
    Operation* operation = nullptr;
    std::byte* owned = nullptr;  // in the engine's area for replies
    std::size_t length = 0;
    std::uint32_t generation = 0;
    std::uint32_t slot = 0;
    core::Loan loan{};
    std::int64_t recalled = 0;  // ns; 0: it hasn't been tried
    bool is_lent = false;
    bool is_request = false;
    bool in_use = false;
  };
  struct Incoming : Operation {  // one that is being read
    Channel* channel = nullptr;
    Kind kind{};
    CallHeader call{};
    std::array<LargeBody, max_large_pieces> pieces{};
    std::uint32_t piece_count = 0;
    std::uint64_t length = 0;  // of all pieces
    std::uint32_t token = 0;
    std::byte* memory = nullptr;
    core::Pin in_place;  // `memory` is the caller's: registered while it is read to
    bool is_in_place = false;
    std::uint32_t loan = 0;  // its generation
    std::int64_t asked = 0;  // ns, when it couldn't be mapped yet; 0: it hasn't been tried
    bool is_lent = false;
    bool was_lent = false;  // and is read by its key: it couldn't be mapped
    bool in_use = false;
    bool read = false;
    /// Whether the reply to that call is being read to where its caller wants it.
    bool reads_into(std::uint32_t slot) const noexcept {
      return in_use && is_in_place && call.slot == slot && in_place;
    }
  };
  struct Ordered {  // a message that waits for one before it
    Incoming* large;
    const std::byte* held;  // the receive that it lies in
    std::span<const std::byte> body;
  };
  errc send_large(Kind kind, const CallHeader& call, const Payload& bytes, Operation* done) noexcept;
  errc expose_pieces(const Payload& bytes, Outgoing& outgoing, std::span<LargeBody>& pieces) noexcept;
  enum class Offer : std::uint8_t { to_read, to_borrow };
  errc offer_large(Kind kind, const CallHeader& call, Outgoing& outgoing, std::span<const LargeBody> pieces,
                   std::size_t length, Offer offer = Offer::to_read) noexcept;
  Outgoing* free_outgoing() noexcept;
  bool must_copy(Kind kind, const Payload& bytes) noexcept;
  bool may_copy_after(errc error, std::size_t length) const noexcept;
  void take_large(const MessageHeader& header, std::span<const std::byte> body);
  LargeArea& area_of(Kind kind) noexcept;
  errc keep_large_reply(const CallHeader& call, const Payload& bytes) noexcept;
  bool send_large_reply(const CallHeader& call, const Payload& bytes) noexcept;
  void send_waiting_replies() noexcept;
  bool begin_read(Incoming& incoming) noexcept;
  static void read_done(Operation* self, std::error_code error, std::size_t bytes) noexcept;
  void finish_read(Incoming& incoming);
  void begin_waiting_reads() noexcept;
  bool is_short_of_room() const noexcept {
    return !waiting_reads_.empty() || !waiting_reply_reads_.empty() || !waiting_replies_.empty();
  }
  void deliver_ordered();
  void take_release(std::uint32_t token) noexcept;
  void end_with_call() noexcept;
  bool is_read_in_place(const CallHeader& call) const noexcept;
  // channel_lent.cc
  Exposure expose_to_lend(Kind kind, const Payload& bytes) noexcept;
  bool end_loan(Outgoing& outgoing, bool now) noexcept;
  void forget_loan(Outgoing& outgoing) noexcept;
  void end_loan_of(std::uint32_t slot) noexcept;
  void end_all_loans() noexcept;
  static core::Loan loan_of(const Incoming& incoming) noexcept;
  bool begin_loan(Incoming& incoming);
  void deliver_lent(Incoming& incoming, std::span<const std::byte> payload);
  void drop_recalled(Incoming& incoming) noexcept;
  bool hold_lent(Bytes& part, std::byte*& range, std::size_t& length) noexcept;
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
  std::size_t copy_limit_ = 0;  // at most theirs_.eager_size
  std::size_t frame_limit_ = 0;
  bool accepts_ = false;     // open, and not closing: the program may start what it likes
  bool has_pinned_ = false;  // operations queued whose memory's registration is to be confirmed
  bool dirty_ = false;       // in the engine's list of channels to flush
  bool reserved_ = false;    // for a connection that is being made
  friend class Engine;

  // Credits, cumulative modulo 2^32.
  std::uint32_t granted_by_peer_ = 0;
  std::uint32_t requests_received_ = 0;
  std::uint32_t granted_ = 0;       // what the peer may send in all
  std::uint32_t grant_told_ = 0;    // what it has been told
  std::uint32_t replies_owed_ = 0;  // requests received and not answered
  std::uint32_t activity_ = 0;      // frames received and completions met
  // These never wrap: a call may wait for its reply while any number of others pass.
  std::uint64_t requests_sent_ = 0;    // queued; the low half is the credit used
  std::uint64_t requests_posted_ = 0;  // of them, before the last doorbell

  const bool posts_alone_;  // one that nothing is to be chained to: a doorbell costs no more than the chain
  const std::uint32_t request_limit_;    // the same for messages and requests
  const std::uint32_t one_sided_limit_;  // of entries in the ring, when one more is started
  const std::uint32_t eager_limit_;      // of entries in the ring, when a message is queued
  SendRing ring_;
  OpenFrame frame_;  // in the ring's last slot
  std::vector<Outgoing> outgoing_;
  std::vector<std::unique_ptr<Incoming>> incoming_;
  struct WaitingReply {
    WaitingReply(const CallHeader& header, std::size_t size) : call(header), bytes(size) {}
    CallHeader call;
    std::vector<std::byte> bytes;
  };
  // Lists: an empty deque has half a KiB, and these are empty in most channels.
  std::list<Incoming*> waiting_reads_;        // messages and requests
  std::list<Incoming*> waiting_reply_reads_;  // apart: requests can't stop replies
  std::list<WaitingReply> waiting_replies_;   // large ones of ours: for a place or for memory
  std::list<Ordered> ordered_;
  std::vector<ReplyWindow*> windows_;
  CallKey delivered_{};              // the request whose handler ran last, or runs
  Incoming* delivering_ = nullptr;   // a large one whose handler runs …
  std::span<const std::byte> lent_;  // … and where it lies, if it is lent and not yet held
  std::uint32_t places_ = 0;         // large replies that are being read to where their callers want them
  std::uint32_t loans_ = 0;          // of ours that the peer hasn't given back

  struct Probe : Operation {
    Probe() : Operation(&ended) {}
    static void ended(Operation* self, std::error_code, std::size_t) noexcept {
      static_cast<Probe*>(self)->is_under_way = false;
    }
    bool is_under_way = false;  // one at a time: there is one place for it in the ring
  } probe_;
  std::uint32_t activity_seen_ = 0;

  std::error_code error_;
  std::string why_;
  std::string peer_name_;
  std::string path_;
  std::int64_t linger_until_ = 0;  // ns; 0: not closing
};

}  // namespace verbena::transport
