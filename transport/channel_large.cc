// SPDX-License-Identifier: Apache-2.0
// Large messages: the sender tells where the payload lies, the receiver reads it, and says when it has.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "transport/budget.h"
#include "transport/channel.h"
#include "transport/engine.h"

namespace verbena::transport {
namespace {

// A token names a place in `outgoing_` and its generation, so that a peer's late or made-up release finds
// nothing.
constexpr std::uint32_t token_of(std::size_t place, std::uint32_t generation) {
  return static_cast<std::uint32_t>(place) | generation << 8;
}

}  // namespace

// `key` 0: the bytes are the caller's, and are registered for this message.
std::error_code Channel::send_large(Kind kind, CallHeader call, std::span<const std::byte> bytes,
                                    Operation* done, std::byte* owned, std::uint32_t key) noexcept {
  if (bytes.size() > theirs_.large_bytes || bytes.size() >= 1u << 31)
    return make_error_code(errc::message_too_long);
  const auto places = std::span(outgoing_).first(theirs_.large_depth);
  const auto free = std::ranges::find(places, false, &Outgoing::in_use);
  if (free == places.end()) {
    if (needs_credit(kind)) ++engine_.statistics().overloaded;  // a reply waits for its place
    return make_error_code(errc::overloaded);
  }
  if (key == 0) {
    free->registration = engine_.register_memory(bytes);
    if (!free->registration)
      return make_error_code(errno == ENOMEM ? errc::memlock_too_small : errc::device_failed);
    key = free->registration->rkey;
  }
  const LargeBody body{reinterpret_cast<std::uint64_t>(bytes.data()), bytes.size(), key, 0};
  const auto place = static_cast<std::size_t>(free - places.begin());
  free->generation = (free->generation + 1) & 0xff'ffff;
  const std::uint32_t token = token_of(place, free->generation);
  auto& pool = needs_credit(kind) ? engine_.request_sends() : engine_.reply_sends();
  if (const errc error = queue_eager(kind, token, call, std::as_bytes(std::span(&body, 1)), pool, nullptr);
      error != errc{}) {
    free->registration.reset();
    return make_error_code(error);
  }
  engine_.statistics().bytes_sent += bytes.size() - sizeof body;  // the payload, not its place
  free->operation = done;
  free->owned = owned;
  free->length = bytes.size();
  free->is_request = kind == Kind::large_request;
  free->slot = call.slot;
  free->in_use = true;
  if (needs_credit(kind)) ++requests_sent_;
  return {};
}

// False: all places are taken, or there is no memory now; tried again when a release or a range comes back.
bool Channel::send_large_reply(const CallHeader& call, std::span<const std::byte> bytes) noexcept {
  std::byte* copy = engine_.large_copies().take(bytes.size());
  if (!copy) return false;
  std::memcpy(copy, bytes.data(), bytes.size());
  if (send_large(Kind::large_reply, call, {copy, bytes.size()}, nullptr, copy,
                 engine_.large_copies().rkey())) {
    engine_.large_copies().give(copy, bytes.size());
    return false;
  }
  --replies_owed_;
  return true;
}

void Channel::send_waiting_replies() noexcept {
  while (state_ == State::open && !waiting_replies_.empty() &&
         send_large_reply(waiting_replies_.front().call, waiting_replies_.front().bytes)) {
    waiting_replies_.pop_front();
  }
}

void Channel::take_release(std::uint32_t token) noexcept {
  const std::size_t place = token & 0xff;
  if (place >= outgoing_.size() || !outgoing_[place].in_use || outgoing_[place].generation != token >> 8) {
    return;  // revoked meanwhile
  }
  release(outgoing_[place], {});
  engine_.range_came_back();
}

void Channel::release(Outgoing& outgoing, std::error_code error) noexcept {
  outgoing.registration.reset();  // from here on no one reads it
  if (outgoing.owned) engine_.large_copies().give(std::exchange(outgoing.owned, nullptr), outgoing.length);
  outgoing.in_use = false;
  if (Operation* done = std::exchange(outgoing.operation, nullptr)) {
    done->complete(done, error, error ? 0 : outgoing.length);
  }
}

void Channel::revoke_request(std::uint32_t slot) noexcept {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.in_use && outgoing.is_request && outgoing.slot == slot) {
      // The place is taken until its release comes, since that takes a receive of ours.
      outgoing.registration.reset();
      outgoing.is_request = false;
    }
  }
}

void Channel::take_large(Kind kind, const CallHeader& call, const LargeBody& body, std::uint32_t token) {
  constexpr std::uint64_t longest = (1ull << 31) - 1;  // of one work request
  if (body.length == 0 || body.length > std::min<std::uint64_t>(engine_.options().large_bytes, longest))
    return violation("a large message of a length that was never agreed on");
  const auto free = std::ranges::find_if(incoming_, [](const auto& incoming) { return !incoming->in_use; });
  if (free == incoming_.end()) return violation("more large messages than it declared");
  if (kind == Kind::large_request && !owe_reply()) return;
  Incoming& incoming = **free;
  incoming.in_use = true;
  incoming.read = false;
  incoming.memory = nullptr;
  incoming.kind = kind;
  incoming.call = call;
  incoming.body = body;
  incoming.token = token;
  if (kind == Kind::large_message) ordered_.push_back({&incoming, nullptr, 0});
  auto& waiting = kind == Kind::large_reply ? waiting_reply_reads_ : waiting_reads_;
  if (!waiting.empty() || !begin_read(incoming)) waiting.push_back(&incoming);
}

LargeArea& Channel::area_of(Kind kind) noexcept {
  return kind == Kind::large_reply ? engine_.large_replies() : engine_.large_requests();
}

bool Channel::begin_read(Incoming& incoming) noexcept {
  LargeArea& area = area_of(incoming.kind);
  incoming.memory = area.take(incoming.body.length);
  if (!incoming.memory) return false;  // tried again when a range comes back
  const auto length = static_cast<std::uint32_t>(incoming.body.length);
  SendSlot& slot = ring_.next();
  slot.pieces[0] = {reinterpret_cast<std::uint64_t>(incoming.memory), length, area.lkey()};
  slot.request.opcode = IBV_WR_RDMA_READ;
  slot.request.num_sge = 1;
  slot.request.send_flags = 0;
  slot.request.wr.rdma = {incoming.body.address, incoming.body.key};
  slot.entry = {&incoming, nullptr, nullptr, length};
  queue();
  return true;
}

void Channel::read_done(Operation* self, std::error_code error, std::size_t) noexcept {
  auto& incoming = *static_cast<Incoming*>(self);
  Channel& channel = *incoming.channel;
  if (error) return;  // the channel is ending: abandon_large() cleans up
  ++channel.engine_.statistics().large_messages_read;
  channel.queue_eager(Kind::release, incoming.token, {}, {}, channel.engine_.reply_sends(), nullptr);
  incoming.read = true;
  if (incoming.kind == Kind::large_message) return channel.deliver_ordered();
  channel.finish_read(incoming);
}

// The handler sees the message where it was read to; then the range goes to whoever waits for one.
void Channel::finish_read(Incoming& incoming) {
  const std::span<const std::byte> payload(incoming.memory, incoming.body.length);
  const std::uint32_t serial = serial_;
  const bool credited = needs_credit(incoming.kind);
  engine_.statistics().bytes_received += payload.size();
  if (incoming.kind == Kind::large_message) {
    if (message_handler && !is_closing()) message_handler(payload);
  } else if (calls.deliver) {
    const Kind kind = incoming.kind == Kind::large_request ? Kind::request : Kind::reply;
    calls.deliver(calls.self, *this, kind, incoming.call, payload);
  } else if (incoming.kind == Kind::large_request) {
    CallHeader call = incoming.call;
    call.status = static_cast<std::int32_t>(errc::rejected);
    send_reply(call, {});
  }
  if (serial != serial_ || !incoming.in_use) return;  // ended meanwhile
  area_of(incoming.kind).give(incoming.memory, incoming.body.length);
  incoming.in_use = false;
  if (state_ != State::open) return;
  if (credited) {
    ++granted_;
    tell_grant_if_due();
  }
  engine_.range_came_back();
}

void Channel::begin_waiting_reads() noexcept {
  for (auto* waiting : {&waiting_reply_reads_, &waiting_reads_}) {
    while (state_ == State::open && !waiting->empty() && begin_read(*waiting->front())) waiting->pop_front();
  }
  send_waiting_replies();
}

void Channel::deliver_ordered() {
  const std::uint32_t serial = serial_;
  while (serial == serial_ && !ordered_.empty()) {
    const Ordered front = ordered_.front();
    if (front.large && !front.large->read) return;
    ordered_.pop_front();
    if (front.large) {
      finish_read(*front.large);
      continue;
    }
    engine_.statistics().bytes_received += front.length;
    if (message_handler && !is_closing()) message_handler({front.buffer, front.length});
    engine_.give_back(front.buffer - sizeof(MessageHeader));
    if (serial != serial_ || state_ != State::open) continue;
    ++granted_;
    tell_grant_if_due();
  }
}

void Channel::abandon_large(std::error_code error) noexcept {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.in_use) release(outgoing, error);
  }
  for (const auto& incoming : incoming_) {
    if (incoming->in_use && incoming->memory)
      area_of(incoming->kind).give(incoming->memory, incoming->body.length);
    incoming->in_use = false;
    incoming->memory = nullptr;
  }
  for (const Ordered& entry : ordered_) {
    if (entry.buffer) engine_.give_back(entry.buffer - sizeof(MessageHeader));
  }
  ordered_.clear();
  waiting_reads_.clear();
  waiting_reply_reads_.clear();
  waiting_replies_.clear();
}

}  // namespace verbena::transport
