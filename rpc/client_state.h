// SPDX-License-Identifier: Apache-2.0
/// A client's calls: a table of slots, each with a generation, so that what comes late finds nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "rpc/method_table.h"
#include "rpc/reconnector.h"
#include "rpc/sampler.h"
#include "transport/channel.h"
#include "transport/engine.h"
#include "verbena/connection.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

/// A slot is free, waiting for its reply, or expired: its call has completed with timed_out, but its reply's
/// receive is still reserved, so that the slot isn't used again before that reply has come. Invariant: slots
/// not free = replies that may still come ≤ the reserve that the options declare.
class ClientState {
 public:
  ClientState(Loop& loop, Connection connection);
  ~ClientState();
  ClientState(const ClientState&) = delete;
  ClientState& operator=(const ClientState&) = delete;

  /// A slot to put a handler into; nullptr and why not.
  CallHandler* begin(std::uint32_t& slot, std::error_code& error) noexcept {
    if (free_.empty()) [[unlikely]] {
      error = why_no_slot();
      return nullptr;
    }
    slot = free_.back();
    return &calls_[slot].handler;
  }
  std::error_code submit(std::uint32_t slot, MethodId method, Bytes request, std::span<const Bytes> more,
                         std::chrono::nanoseconds deadline) noexcept;

  /// Before submit(): what a call asks for beside its deadline.
  void prepare(std::uint32_t slot, const CallOptions& options) noexcept;
  bool prepare_stream(std::uint32_t slot, Handler<void(Bytes)> on_part, const StreamOptions& options);
  void consumed(Ticket ticket, std::uint32_t parts) noexcept;
  void cancel(Ticket ticket) noexcept;

  /// False from its end on.
  std::shared_ptr<const bool> alive() const noexcept { return alive_; }
  std::size_t in_flight() const noexcept { return in_flight_; }
  Connection& connection() noexcept { return connection_; }
  Loop& loop() noexcept { return loop_; }
  void close() noexcept;

  /// From now on the loss of its connection isn't its end.
  void reconnect(std::string address, const ReconnectPolicy& policy, std::uint32_t seed);
  std::uint64_t reconnections() const noexcept { return reconnector_ ? reconnector_->successes() : 0; }
  // For the reconnector. The user's handler, which each runs last, may destroy this.
  void adopt(Connection connection);
  void give_up(std::error_code error, std::string_view why);

  Handler<void(std::error_code, std::string_view)> closed_handler;
  Handler<void()> reconnected_handler;

 private:
  enum class Use : std::uint8_t { free, waiting, expired };
  struct Stream {
    Handler<void(Bytes)> on_part;
    std::uint32_t window = 0;
    bool manual = false;
    std::uint32_t ahead = 0;  ///< parts that have come and of which the server hasn't been told
    std::uint32_t taken = 0;  ///< those of them that were taken
    /// Half a window at a time, so that a part costs no message of its own.
    bool is_word_due() const noexcept { return taken >= (window + 1) / 2; }
  };
  struct Call {
    [[no_unique_address]] CallHandler handler;  // its tail takes the next member
    std::int64_t due = transport::Ticker::never;
    std::int64_t begun = 0;  // ns; 0: its time isn't taken
    MethodStatistics* statistics = nullptr;
    std::uint64_t request = 0;  // its number on the channel
    std::uint32_t generation = 0;
    Use use = Use::free;
    bool is_cancelled = false;
    bool is_overdue = false;  // its buffers are still to be revoked
    std::int32_t window = 0;  // not 0: a stream
    std::span<std::byte> reply_into;
    std::unique_ptr<Stream> stream;
  };
  struct Deadlines : transport::Ticker {
    ClientState* owner = nullptr;
  };
  static void deliver(void* self, transport::Channel& channel, transport::Kind kind,
                      const transport::CallHeader& call, Bytes payload);
  static transport::Place place(void* self, const transport::CallHeader& reply, std::size_t length,
                                std::span<std::byte>& into);
  static void closed(void* self, transport::Channel& channel, std::error_code error, std::string_view why);
  Call* find(const transport::CallHeader& reply) noexcept;
  /// The call under way that is named so; or nullptr.
  Call* find(Ticket ticket) noexcept {
    if (ticket.slot >= calls_.size()) return nullptr;
    Call& call = calls_[ticket.slot];
    return call.use == Use::waiting && call.generation == ticket.generation ? &call : nullptr;
  }
  /// The open channel's calls are this client's. Generations go on: what comes late, however late, finds
  /// nothing.
  void attach() noexcept;
  void take_reply(const transport::CallHeader& call, Bytes payload) noexcept;
  void complete(Call& call, std::error_code error, Bytes payload) noexcept;
  /// Completes it, though its reply may still come: its place isn't free before.
  void complete_early(Call& call, std::error_code error) noexcept {
    call.use = Use::expired;
    call.due = transport::Ticker::never;
    complete(call, error, {});
  }
  static std::error_code error_of(const transport::CallHeader& reply) noexcept;
  void expire(std::int64_t now_ns) noexcept;
  /// Without an error: each with what its loss means.
  void complete_all(std::error_code error = {}) noexcept;
  static std::error_code why_early(Call& call) noexcept {
    return make_error_code(std::exchange(call.is_cancelled, false) ? errc::cancelled : errc::timed_out);
  }
  /// The channel is ending. Whether the request may have run is told by whether it was posted.
  std::error_code loss_of(const Call& call) const noexcept {
    return make_error_code(channel_->was_posted(call.request) ? errc::connection_lost : errc::not_sent);
  }
  void free_slot(std::uint32_t slot) noexcept {
    Call& call = calls_[slot];
    call.use = Use::free;
    call.due = transport::Ticker::never;
    ++call.generation;
    call.is_cancelled = call.is_overdue = false;
    call.reply_into = {};
    if (call.window != 0) [[unlikely]]
      end_stream(call);
    free_.push_back(slot);
  }

  MethodStatistics& statistics_of(MethodId method) noexcept {
    if (last_method_ != method) [[unlikely]] {
      last_ = &statistics_.row(Role::client, method);
      last_method_ = method;
    }
    return *last_;
  }
  static void end_stream(Call& call) noexcept;
  void take_part(const transport::CallHeader& part, Bytes payload);
  void tell_taken(std::uint32_t slot) noexcept;
  void tell_all_taken() noexcept;
  void stop_stream(std::uint32_t slot) noexcept;
  void tell_later() noexcept;
  static void count_time(Call& call) noexcept;
  std::error_code why_no_slot() noexcept;

  Loop& loop_;
  Connection connection_;
  transport::Channel* channel_ = nullptr;  // the connection's, also while it is ending
  std::uint32_t serial_ = 0;
  std::vector<Call> calls_;          // call_depth of our options; the peer's may be less, and change
  std::vector<std::uint32_t> free_;  // of those that the peer has room for
  struct Expiring {
    std::int64_t due;
    std::uint32_t slot;
    std::uint32_t generation;
  };
  std::vector<Expiring> expiring_;  // used by expire() alone; kept, so that it allocates nothing
  std::size_t in_flight_ = 0;
  bool owes_word_ = false;  // a server waits for tell_taken(), and there was no credit
  MethodTable& statistics_;
  MethodStatistics* last_ = nullptr;        // most calls are of the method of the one before
  std::uint64_t last_method_ = UINT64_MAX;  // no MethodId at first
  Sampler sampler_;
  Deadlines deadlines_;
  std::unique_ptr<Reconnector> reconnector_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // a handler may destroy this
};

}  // namespace verbena::rpc
