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
  if (!channel_) return;
  serial_ = channel_->serial();
  for (std::uint32_t slot = 0; slot < calls_.size(); ++slot) {
    if (calls_[slot].use != Use::free) free_slot(slot);  // its reply's receive went with the old channel
  }
  free_.clear();
  const auto depth = std::min(static_cast<std::uint32_t>(calls_.size()), channel_->call_depth());
  for (std::uint32_t slot = depth; slot > 0; --slot) free_.push_back(slot - 1);
  channel_->calls = {this, &deliver, &closed};
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
  for (std::uint32_t slot = 0; slot < calls_.size(); ++slot) channel_->revoke_request(slot);
  connection_.close();
  complete_all(was_open ? make_error_code(errc::cancelled) : std::error_code{});
}

[[gnu::cold]] std::error_code ClientState::why_no_slot() noexcept {
  if (!connection_.is_open()) return make_error_code(errc::connection_lost);
  ++loop_.engine().statistics().overloaded;
  return make_error_code(errc::overloaded);
}

std::error_code ClientState::submit(std::uint32_t slot, MethodId method, Bytes request,
                                    std::span<const Bytes> more, std::chrono::nanoseconds deadline) noexcept {
  Call& call = calls_[slot];
  const bool is_ours = channel_ && channel_->serial() == serial_;
  const errc error = is_ours ? channel_->send_request({slot, call.generation, method, 0}, request, more)
                             : errc::connection_lost;
  if (error != errc{}) [[unlikely]] {
    call.handler.drop();
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
  if (kind == Kind::reply) static_cast<ClientState*>(self)->take_reply(call, payload);
}

void ClientState::take_reply(const CallHeader& reply, Bytes payload) noexcept {
  if (reply.slot >= calls_.size() || calls_[reply.slot].generation != reply.generation ||
      calls_[reply.slot].use == Use::free) [[unlikely]] {
    ++loop_.engine().statistics().late_replies;
    return;
  }
  Call& call = calls_[reply.slot];
  const bool expired = call.use == Use::expired;
  free_slot(reply.slot);
  if (expired) [[unlikely]] {
    ++loop_.engine().statistics().late_replies;
    return;
  }
  --in_flight_;
  call.statistics->bytes_in += payload.size();
  if (call.begun != 0) [[unlikely]]
    count_time(call);
  std::error_code error;
  if (reply.status == 0) [[likely]] {
    ++call.statistics->completed;
  } else {
    // The peer's word: only what a handler may say.
    switch (static_cast<errc>(reply.status)) {
      case errc::rejected:
      case errc::overloaded:
      case errc::cancelled:
        error = make_error_code(static_cast<errc>(reply.status));
        break;
      default:
        error = make_error_code(errc::handler_failed);
    }
    count_failure(*call.statistics, error);
  }
  call.handler(error, payload);
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
    if (transport::Channel* channel = connection_.channel()) channel->revoke_request(next.slot);
    call.use = Use::expired;
    call.due = transport::Ticker::never;
    --in_flight_;
    count_failure(*call.statistics, errc::timed_out);
    if (call.begun != 0) count_time(call);
    call.handler(make_error_code(errc::timed_out), {});
  }
}

void ClientState::complete_all(std::error_code error) noexcept {
  const auto alive = alive_;
  const bool ending = !*alive;  // called by the destructor: then it's no sign of a handler
  for (Call& call : calls_) {
    if (call.use != Use::waiting) continue;
    call.use = Use::expired;
    call.due = transport::Ticker::never;
    --in_flight_;
    const std::error_code outcome = error ? error : loss_of(call);
    count_failure(*call.statistics, outcome);
    if (call.begun != 0) count_time(call);
    call.handler(outcome, {});
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
