// SPDX-License-Identifier: Apache-2.0
#include "rpc/client_state.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/monotonic_ns.h"

namespace verbena::rpc {

using transport::CallHeader;
using transport::Kind;

ClientState::ClientState(Loop& loop, Connection connection)
    : loop_(loop),
      connection_(std::move(connection)),
      statistics_(MethodTable::of(loop.engine())),
      sampler_(loop.options().latency_sample) {
  const std::uint32_t depth = loop.options().call_depth;
  calls_.resize(depth);
  free_.reserve(depth);
  expiring_.reserve(depth);
  deadlines_.owner = this;
  deadlines_.tick = [](transport::Ticker& self, std::int64_t now) {
    static_cast<Deadlines&>(self).owner->expire(now);
  };
  loop_.engine().add(deadlines_);
  attach();
}

void ClientState::attach() noexcept {
  assert(in_flight_ == 0);
  channel_ = connection_.channel();
  free_.clear();
  owes_word_ = false;
  if (!channel_) return;
  serial_ = channel_->serial();
  for (std::uint32_t slot = 0; slot < calls_.size(); ++slot) {
    if (calls_[slot].use != Use::free) free_slot(slot);  // its reply's receive went with the old channel
  }
  free_.clear();
  const auto depth = std::min(static_cast<std::uint32_t>(calls_.size()), channel_->call_depth());
  for (std::uint32_t slot = depth; slot > 0; --slot) free_.push_back(slot - 1);
  channel_->calls = {this, &deliver, &place, &closed};
}

void ClientState::reconnect(std::string address, const ReconnectPolicy& policy, std::uint32_t seed) {
  reconnector_ = std::make_unique<Reconnector>(*this, std::move(address), policy, seed);
  if (!connection_.is_open())  // already lost, and nobody heard
    reconnector_->begin(make_error_code(errc::connection_lost), "the connection was lost at once");
}

void ClientState::adopt(Connection connection) {
  connection_ = std::move(connection);
  attach();
  auto handler = std::exchange(reconnected_handler, {});
  if (!handler) return;
  const auto alive = alive_;
  handler();
  if (*alive && !reconnected_handler) reconnected_handler = std::move(handler);
}

void ClientState::give_up(std::error_code error, std::string_view why) {
  if (const auto handler = std::exchange(closed_handler, {})) handler(error, why);
}

ClientState::~ClientState() {
  *alive_ = false;
  close();
  loop_.engine().remove(deadlines_);
}

void ClientState::close() noexcept {
  if (reconnector_) reconnector_->stop();
  closed_handler = {};  // it is the user's own doing, also in the midst of a loss
  if (!channel_ || channel_->serial() != serial_) return connection_.close();  // closed() has been told
  const bool was_open = channel_->is_open();
  channel_->calls = {};  // one that is ending by itself would still tell us
  // Nobody reads the large requests from here on; then their callers may have them back.
  for (std::uint32_t slot = 0; slot < calls_.size(); ++slot) channel_->revoke_call_now(slot);
  connection_.close();
  complete_all(was_open ? make_error_code(errc::cancelled) : std::error_code{});
}

[[gnu::cold]] std::error_code ClientState::why_no_slot() noexcept {
  if (connection_.is_parents()) return make_error_code(errc::other_process);
  if (!connection_.is_open()) return make_error_code(errc::connection_lost);
  ++loop_.engine().statistics().overloaded;
  return make_error_code(errc::overloaded);
}

std::error_code ClientState::submit(std::uint32_t slot, MethodId method, Bytes request,
                                    std::span<const Bytes> more, std::chrono::nanoseconds deadline) noexcept {
  Call& call = calls_[slot];
  const bool is_ours = channel_ && channel_->serial() == serial_;
  const errc error = is_ours
                         ? channel_->send_request({slot, call.generation, method, call.window}, request, more)
                     : connection_.is_parents() ? errc::other_process
                                                : errc::connection_lost;
  if (error != errc{}) [[unlikely]] {
    call.handler.drop();
    call.reply_into = {};
    end_stream(call);
    return make_error_code(error);
  }
  free_.pop_back();
  call.use = Use::waiting;
  call.request = channel_->requests_sent();
  ++in_flight_;
  MethodStatistics& statistics = statistics_of(method);
  call.statistics = &statistics;
  ++statistics.calls;
  statistics.bytes_out += request.size();
  for (const Bytes& piece : more) statistics.bytes_out += piece.size();
  if (sampler_.take()) [[unlikely]]
    call.begun = core::monotonic_ns();
  if (deadline.count() > 0) {
    call.due = core::monotonic_ns() + deadline.count();
    deadlines_.due = std::min(deadlines_.due, call.due);
  }
  return {};
}

void ClientState::deliver(void* self, transport::Channel&, Kind kind, const CallHeader& call, Bytes payload) {
  auto& client = *static_cast<ClientState*>(self);
  if (kind == Kind::reply) [[likely]]
    return client.take_reply(call, payload);
  if (kind == Kind::part) client.take_part(call, payload);
}

// The call that `reply` answers. nullptr: none, or one that has completed; its place is free now.
inline ClientState::Call* ClientState::find(const CallHeader& reply) noexcept {
  if (reply.slot < calls_.size()) [[likely]] {
    Call& call = calls_[reply.slot];
    if (call.generation == reply.generation && call.use != Use::free) [[likely]] {
      if (call.use == Use::waiting) [[likely]]
        return &call;
      free_slot(reply.slot);
    }
  }
  ++loop_.engine().statistics().late_replies;
  return nullptr;
}

std::error_code ClientState::error_of(const CallHeader& reply) noexcept {
  // The peer's word: only what a handler may say.
  switch (static_cast<errc>(reply.status)) {
    case errc::rejected:
    case errc::overloaded:
    case errc::cancelled:
      return make_error_code(static_cast<errc>(reply.status));
    default:
      return make_error_code(errc::handler_failed);
  }
}

void ClientState::take_reply(const CallHeader& reply, Bytes payload) noexcept {
  Call* const call = find(reply);
  if (!call) [[unlikely]]
    return;
  std::error_code error;
  if (reply.status != 0) [[unlikely]]
    error = error_of(reply);
  if (call->reply_into.data() && payload.data() != call->reply_into.data()) [[unlikely]] {
    if (payload.size() > call->reply_into.size()) {
      if (!error) error = make_error_code(errc::message_too_long);
      payload = {};
    }
    payload = call->reply_into.first(std::ranges::copy(payload, call->reply_into.begin()).out -
                                     call->reply_into.begin());
  }
  free_slot(reply.slot);
  complete(*call, error, payload);
}

// A large reply has come: where it is to be read to.
transport::Place ClientState::place(void* self, const CallHeader& reply, std::size_t length,
                                    std::span<std::byte>& into) {
  auto& client = *static_cast<ClientState*>(self);
  Call* const call = client.find(reply);
  if (!call) return transport::Place::nowhere;
  into = call->reply_into;
  if (!into.data()) return transport::Place::anywhere;
  if (length <= into.size()) return transport::Place::there;
  client.free_slot(reply.slot);
  client.complete(*call, make_error_code(errc::message_too_long), {});
  return transport::Place::nowhere;
}

// The handler may call anew, or destroy this.
void ClientState::complete(Call& call, std::error_code error, Bytes payload) noexcept {
  --in_flight_;
  call.statistics->bytes_in += payload.size();
  if (call.begun != 0) [[unlikely]]
    count_time(call);
  if (!error) [[likely]] {
    ++call.statistics->completed;
  } else {
    count_failure(*call.statistics, error);
  }
  call.handler(error, payload);
}

void ClientState::prepare(std::uint32_t slot, const CallOptions& options) noexcept {
  Call& call = calls_[slot];
  call.reply_into = options.reply_into;
  if (options.ticket) *options.ticket = {slot, call.generation};
}

bool ClientState::prepare_stream(std::uint32_t slot, Handler<void(Bytes)> on_part,
                                 const StreamOptions& options) {
  constexpr std::uint32_t longest = 65'536;
  if (options.window == 0 || options.window > longest) return false;
  Call& call = calls_[slot];
  call.stream = std::make_unique<Stream>();
  call.stream->on_part = std::move(on_part);
  call.stream->window = options.window;
  call.stream->manual = options.manual;
  call.window = static_cast<std::int32_t>(options.window);
  if (options.ticket) *options.ticket = {slot, call.generation};
  return true;
}

void ClientState::end_stream(Call& call) noexcept {
  call.window = 0;
  call.stream.reset();
}

void ClientState::take_part(const CallHeader& part, Bytes payload) {
  Call* const found = find(Ticket{part.slot, part.generation});
  if (!found || !found->stream) return;  // given up
  Call& call = *found;
  if (call.stream->ahead == call.stream->window) [[unlikely]] {
    // More than it was told that we take. Its reply will find nobody.
    channel_->revoke_call_now(part.slot);
    stop_stream(part.slot);
    return complete_early(call, make_error_code(errc::protocol_violation));
  }
  ++call.stream->ahead;
  call.statistics->bytes_in += payload.size();
  const auto alive = alive_;
  auto handler = std::move(call.stream->on_part);  // it may destroy this
  handler(payload);
  if (!*alive || call.generation != part.generation || !call.stream) return;
  call.stream->on_part = std::move(handler);
  if (call.use == Use::waiting && !call.stream->manual) consumed({part.slot, part.generation}, 1);
}

void ClientState::consumed(Ticket ticket, std::uint32_t parts) noexcept {
  Call* const call = find(ticket);
  if (!call || !call->stream) return;
  Stream& stream = *call->stream;
  stream.taken = std::min(stream.taken + parts, stream.ahead);
  if (stream.is_word_due()) tell_taken(ticket.slot);
}

// There was no credit: tried again with the next tick.
void ClientState::tell_later() noexcept {
  owes_word_ = true;
  deadlines_.due = INT64_MIN;
}

void ClientState::tell_taken(std::uint32_t slot) noexcept {
  Call& call = calls_[slot];
  if (!channel_ || channel_->serial() != serial_) return;
  const errc error =
      channel_->send_more(slot, call.generation, static_cast<std::int32_t>(call.stream->taken));
  if (error == errc{}) {
    call.stream->ahead -= std::exchange(call.stream->taken, 0);
  } else if (channel_->is_open()) {
    tell_later();
  }
}

void ClientState::tell_all_taken() noexcept {
  for (std::uint32_t slot = 0; slot < calls_.size(); ++slot) {
    const Call& call = calls_[slot];
    if (!call.stream) continue;
    if (call.use == Use::expired) {
      stop_stream(slot);
    } else if (call.use == Use::waiting && call.stream->is_word_due()) {
      tell_taken(slot);
    }
  }
}

// The server needn't write what nobody takes.
void ClientState::stop_stream(std::uint32_t slot) noexcept {
  Call& call = calls_[slot];
  if (!channel_ || channel_->serial() != serial_) return;
  if (channel_->send_more(slot, call.generation, -1) == errc{}) {
    call.stream.reset();
  } else if (channel_->is_open()) {
    tell_later();
  }
}

void ClientState::cancel(Ticket ticket) noexcept {
  Call* const call = find(ticket);
  if (!call) return;
  call->is_cancelled = true;
  call->due = deadlines_.due = INT64_MIN;
  loop_.engine().wake_if_asleep();
}

[[gnu::cold]] void ClientState::count_time(Call& call) noexcept {
  call.statistics->latency.record(
      static_cast<std::uint64_t>(core::monotonic_ns() - std::exchange(call.begun, 0)));
}

// In the order of their deadlines, however many have passed at once. A handler may call anew, or destroy
// this.
void ClientState::expire(std::int64_t now_ns) noexcept {
  expiring_.clear();
  deadlines_.due = transport::Ticker::never;
  if (std::exchange(owes_word_, false)) tell_all_taken();
  for (std::uint32_t slot = 0; slot < calls_.size(); ++slot) {  // only those that wait have one
    if (calls_[slot].due <= now_ns) {
      expiring_.push_back({calls_[slot].due, slot, calls_[slot].generation});
    } else {
      deadlines_.due = std::min(deadlines_.due, calls_[slot].due);
    }
  }
  std::ranges::sort(expiring_, {}, &Expiring::due);
  const auto alive = alive_;
  for (std::size_t i = 0; *alive && i < expiring_.size(); ++i) {
    const Expiring& next = expiring_[i];
    Call& call = calls_[next.slot];
    if (call.use != Use::waiting || call.generation != next.generation)
      continue;  // a handler has closed the client
    if (channel_->serial() == serial_ && !channel_->revoke_call(next.slot)) {
      constexpr std::int64_t look_again_ns = 1'000'000;
      call.is_overdue = true;
      call.due = now_ns + look_again_ns;
      deadlines_.due = std::min(deadlines_.due, call.due);
      continue;
    }
    call.reply_into = {};
    if (call.stream) stop_stream(next.slot);
    complete_early(call, why_early(call));
  }
}

void ClientState::complete_all(std::error_code error) noexcept {
  const auto alive = alive_;
  const bool ending = !*alive;  // called by the destructor: then it's no sign of a handler
  for (Call& call : calls_) {
    if (call.use != Use::waiting) continue;
    complete_early(call, error ? error : call.is_overdue ? why_early(call) : loss_of(call));
    if (!ending && !*alive) return;
  }
}

void ClientState::closed(void* self, transport::Channel&, std::error_code error, std::string_view why) {
  auto& client = *static_cast<ClientState*>(self);
  client.free_.clear();
  const auto alive = client.alive_;
  client.complete_all();
  if (!*alive) return;
  if (client.reconnector_ && client.reconnector_->begin(error, why)) return;
  client.give_up(error, why);
}

}  // namespace verbena::rpc
