// SPDX-License-Identifier: Apache-2.0
// Large messages: the sender tells where the payload lies, the receiver reads it, and says when it has.
#include <algorithm>
#include <cassert>
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

Channel::Outgoing* Channel::free_outgoing() noexcept {
  const auto places = std::span(outgoing_).first(theirs_.large_depth);
  const auto free = std::ranges::find(places, false, &Outgoing::in_use);
  return free == places.end() ? nullptr : &*free;
}

// Tells the peer where `pieces` lie. On an error nothing has happened.
errc Channel::offer_large(Kind kind, const CallHeader& call, Outgoing& outgoing,
                          std::span<const LargeBody> pieces, std::size_t length, Offer offer) noexcept {
  const bool is_lent = offer == Offer::to_borrow;
  outgoing.generation = (outgoing.generation + 1) & 0xff'ffff;
  const auto place = static_cast<std::uint32_t>(&outgoing - outgoing_.data());
  if (is_lent) {
    outgoing.loan = {pieces[0].address, pieces[0].length, pieces[0].key, place,
                     engine_.device().lending()->generation(*queue_pair_->get(), place)};
  }
  auto& pool = needs_credit(kind) ? engine_.request_sends() : engine_.reply_sends();
  if (const errc error = queue_eager(kind, token_of(place, outgoing.generation), call, std::as_bytes(pieces),
                                     pool, nullptr, is_lent ? &outgoing.loan : nullptr);
      error != errc{})
    return error;
  outgoing.is_lent = is_lent;
  loans_ += is_lent;
  engine_.statistics().bytes_sent += length - pieces.size_bytes();  // the payload, not its place
  outgoing.length = length;
  outgoing.is_request = kind == Kind::large_request;
  outgoing.slot = call.slot;
  outgoing.in_use = true;
  if (kind == Kind::large_message) ++requests_sent_;  // send_request() has counted its own
  return {};
}

// `pieces`: room for all of them; those that aren't empty. On an error nothing is exposed.
errc Channel::expose_pieces(const Payload& bytes, Outgoing& outgoing, std::span<LargeBody>& pieces) noexcept {
  std::size_t count = 0;
  errc error{};
  bytes.for_each([&](std::span<const std::byte> piece) {
    if (piece.empty() || error != errc{}) return;
    Exposure& exposure = outgoing.exposures[count];
    exposure = engine_.registrations().expose(piece, error);
    if (error != errc{}) return;
    pieces[count++] = {reinterpret_cast<std::uint64_t>(piece.data()),
                       static_cast<std::uint32_t>(piece.size()), exposure.key()};
  });
  pieces = pieces.first(count);
  return error;
}

// The bytes are the caller's, and the peer may read them until it says that it has.
errc Channel::send_large(Kind kind, const CallHeader& call, const Payload& bytes, Operation* done) noexcept {
  if (bytes.size() > theirs_.large_bytes || bytes.size() >= 1u << 31) return errc::message_too_long;
  if (bytes.pieces() > most_large_pieces()) return errc::invalid_argument;
  Outgoing* const outgoing = free_outgoing();
  if (!outgoing) {
    ++engine_.statistics().overloaded;
    return errc::overloaded;
  }
  std::array<LargeBody, max_large_pieces> room;
  std::span<LargeBody> pieces(room);
  Offer offer = Offer::to_read;
  errc error{};
  if (Exposure lent = expose_to_lend(kind, bytes)) {
    offer = Offer::to_borrow;
    bytes.for_each([&](std::span<const std::byte> whole) {
      pieces[0] = {reinterpret_cast<std::uint64_t>(whole.data()), static_cast<std::uint32_t>(whole.size()),
                   lent.key()};
    });
    pieces = pieces.first(1);
    outgoing->exposures[0] = std::move(lent);
  } else {
    error = expose_pieces(bytes, *outgoing, pieces);
  }
  if (error == errc{}) error = offer_large(kind, call, *outgoing, pieces, bytes.size(), offer);
  if (error != errc{}) {
    for (Exposure& exposure : outgoing->exposures) exposure.end();
    return error;
  }
  outgoing->operation = done;
  return {};
}

// False: all places are taken, or there is no memory now; tried again when a release or a range comes back.
bool Channel::send_large_reply(const CallHeader& call, const Payload& bytes) noexcept {
  Outgoing* const outgoing = free_outgoing();
  if (!outgoing) return false;
  LargeArea& area = engine_.large_copies();
  std::byte* copy = area.take(bytes.size());
  if (!copy) return false;
  bytes.write_to(copy);
  const LargeBody body{reinterpret_cast<std::uint64_t>(copy), static_cast<std::uint32_t>(bytes.size()),
                       area.rkey()};
  if (offer_large(Kind::large_reply, call, *outgoing, {&body, 1}, bytes.size()) != errc{}) {
    area.give(copy, bytes.size());
    return false;
  }
  outgoing->owned = copy;
  --replies_owed_;
  return true;
}

// Sent now, or when there is room: at most call_depth of them wait.
errc Channel::keep_large_reply(const CallHeader& call, const Payload& bytes) noexcept {
  const std::size_t most = std::min<std::size_t>(theirs_.large_bytes, engine_.options().large_bytes);
  if (bytes.size() > most || bytes.size() >= 1u << 31) return errc::message_too_long;
  if (!waiting_replies_.empty() || !send_large_reply(call, bytes)) {
    bytes.write_to(waiting_replies_.emplace_back(call, bytes.size()).bytes.data());
    engine_.await_range(*this);
  }
  return {};
}

void Channel::send_waiting_replies() noexcept {
  while (state_ == State::open && !waiting_replies_.empty() &&
         send_large_reply(waiting_replies_.front().call,
                          std::span<const std::byte>(waiting_replies_.front().bytes))) {
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
  if (outgoing.is_lent) forget_loan(outgoing);
  for (Exposure& exposure : outgoing.exposures) exposure.end();
  if (outgoing.owned) engine_.large_copies().give(std::exchange(outgoing.owned, nullptr), outgoing.length);
  outgoing.in_use = false;
  if (Operation* done = std::exchange(outgoing.operation, nullptr)) {
    done->complete(done, error, error ? 0 : outgoing.length);
  }
}

bool Channel::revoke_call(std::uint32_t slot) noexcept {
  if (state_ == State::draining) return false;
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.is_lent && outgoing.is_request && outgoing.slot == slot && !end_loan(outgoing, false))
      return false;
  }
  for (const auto& incoming : incoming_) {
    if (incoming->reads_into(slot) && !incoming->in_place.revoke()) {
      end_with_call();
      return false;
    }
  }
  revoke_call_now(slot);
  return true;
}

void Channel::revoke_call_now(std::uint32_t slot) noexcept {
  end_loan_of(slot);
  bool is_revoked = true;
  for (Outgoing& outgoing : outgoing_) {
    if (!outgoing.in_use || !outgoing.is_request || outgoing.slot != slot) continue;
    // The place is taken until its release comes, since that takes a receive of ours.
    outgoing.is_request = false;
    if (outgoing.is_lent) continue;  // there were no fresh pages: the borrower reads on
    for (Exposure& exposure : outgoing.exposures) {
      if (!exposure.revoke()) is_revoked = false;
    }
  }
  for (const auto& incoming : incoming_) {
    if (incoming->reads_into(slot)) incoming->in_place.revoke_for_all();
  }
  if (!is_revoked) end_with_call();
}

// While its reply is read, a call hasn't completed: another reply would have its memory freed under the read.
bool Channel::is_read_in_place(const CallHeader& call) const noexcept {
  return std::ranges::any_of(incoming_, [&](const auto& incoming) {
    return incoming->in_use && incoming->is_in_place && incoming->call.slot == call.slot &&
           incoming->call.generation == call.generation;
  });
}

// Others hold the registration of a call that is given up, so that its key stays good. A queue pair in error
// refuses every read of its peer's from now on; its own have ended when it has drained.
void Channel::end_with_call() noexcept {
  fail(make_error_code(errc::connection_lost),
       "a large call was given up while other operations used the same memory: with the connection, what was "
       "left of it ended");
}

void Channel::take_large(const MessageHeader& header, std::span<const std::byte> body) {
  const Kind kind = header.kind;
  CallHeader call{};
  if (is_call(kind)) {
    if (body.size() < sizeof call) return violation("a call shorter than its header");
    call = read_call_header(body.data());
    body = body.subspan(sizeof call);
  }
  const std::size_t count = body.size() / sizeof(LargeBody);
  const bool is_lent = header.flags & lent_flag;
  if (is_lent && (kind != Kind::large_request || count != 1 || !(ours_.features & borrows_feature)))
    return violation("a loan that was never agreed on");
  if (body.size() % sizeof(LargeBody) != 0 || count == 0 || count > max_large_pieces)
    return violation("a large message without its place");
  const auto free = std::ranges::find_if(incoming_, [](const auto& incoming) { return !incoming->in_use; });
  if (free == incoming_.end()) return violation("more large messages than it declared");
  Incoming& incoming = **free;
  std::memcpy(incoming.pieces.data(), body.data(), body.size());
  incoming.piece_count = static_cast<std::uint32_t>(count);
  constexpr std::uint64_t longest = (1ull << 31) - 1;  // of one work request
  const std::uint64_t most = std::min<std::uint64_t>(engine_.options().large_bytes, longest);
  incoming.length = 0;
  for (const LargeBody& piece : std::span(incoming.pieces).first(count)) {
    if (piece.length == 0 || piece.length > most - incoming.length)
      return violation("a large message of a length that was never agreed on");
    incoming.length += piece.length;
  }
  if (kind == Kind::large_request && !owe_reply()) return;
  if (kind == Kind::large_reply && places_ != 0 && is_read_in_place(call))
    return violation("two replies to one call");
  incoming.memory = nullptr;
  incoming.is_in_place = false;
  if (kind == Kind::large_reply && loans_ != 0) end_loan_of(call.slot);  // its call may complete with this
  if (kind == Kind::large_reply && calls.place) {
    std::span<std::byte> into;
    errc error{};
    switch (calls.place(calls.self, call, incoming.length, into)) {
      case Place::anywhere:
        break;
      case Place::there:
        into = into.first(incoming.length);
        incoming.in_place = engine_.registrations().pin(into, IBV_ACCESS_LOCAL_WRITE, error);
        if (!incoming.in_place) break;  // then by way of the loop's memory
        incoming.is_in_place = true;
        ++places_;
        incoming.memory = into.data();
        break;
      case Place::nowhere:
        if (state_ != State::open) return;
        queue_eager(Kind::release, header.token, {}, {}, engine_.reply_sends(), nullptr);
        return;
    }
  }
  incoming.in_use = true;
  incoming.read = false;
  incoming.kind = kind;
  incoming.call = call;
  incoming.token = header.token;
  incoming.is_lent = is_lent;
  incoming.was_lent = false;
  incoming.asked = 0;
  incoming.loan = header.body;
  if (kind == Kind::large_message) ordered_.push_back({&incoming, nullptr, {}});
  auto& waiting = kind == Kind::large_reply ? waiting_reply_reads_ : waiting_reads_;
  const bool waits = !waiting.empty() && !incoming.is_in_place;  // for memory of the loop's
  if (!waits && begin_read(incoming)) return;
  waiting.push_back(&incoming);
  engine_.await_range(*this);
}

LargeArea& Channel::area_of(Kind kind) noexcept {
  return kind == Kind::large_reply ? engine_.large_replies() : engine_.large_requests();
}

// One read a piece, one behind the other; the last one's completion is that of all. Where a device's word for
// a read can't be trusted, it is that of an empty write behind them, which fails with the queue pair.
bool Channel::begin_read(Incoming& incoming) noexcept {
  if (incoming.is_lent) return begin_loan(incoming);
  LargeArea& area = area_of(incoming.kind);
  if (!incoming.is_in_place) {
    if (!engine_.reads().has_room(incoming.length)) return false;  // tried again when one has ended
    incoming.memory = area.take(incoming.length);
    if (!incoming.memory) return false;  // tried again when a range comes back
    engine_.reads().begin(incoming.length);
  }
  const std::uint32_t key = incoming.is_in_place ? incoming.in_place.lkey() : area.lkey();
  std::byte* to = incoming.memory;
  for (std::uint32_t i = 0; i < incoming.piece_count; ++i) {
    const LargeBody& piece = incoming.pieces[i];
    const std::uint32_t length = piece.length;
    const bool is_last = i + 1 == incoming.piece_count;
    SendSlot& slot = ring_.next();
    slot.pieces[0] = {reinterpret_cast<std::uint64_t>(to), length, key};
    slot.request.opcode = IBV_WR_RDMA_READ;
    slot.request.num_sge = 1;
    slot.request.send_flags = 0;
    slot.request.wr.rdma = {piece.address, piece.key};
    slot.entry = {is_last && !engine_.confirms_reads() ? &incoming : nullptr, nullptr, nullptr, length};
    queue();
    to += length;
  }
  if (engine_.confirms_reads()) queue_empty_write(&incoming);
  return true;
}

void Channel::read_done(Operation* self, std::error_code error, std::size_t) noexcept {
  auto& incoming = *static_cast<Incoming*>(self);
  Channel& channel = *incoming.channel;
  if (!incoming.is_in_place) channel.engine_.reads().end(incoming.length);
  if (error) return;  // the channel is ending: abandon_large() cleans up
  if (incoming.was_lent &&
      !channel.engine_.device().lending()->is_current(*channel.queue_pair_->get(), loan_of(incoming))) {
    channel.engine_.large_requests().give(std::exchange(incoming.memory, nullptr), incoming.length);
    channel.drop_recalled(incoming);
    return channel.engine_.range_came_back();
  }
  ++channel.engine_.statistics().large_messages_read;
  channel.queue_eager(Kind::release, incoming.token, {}, {}, channel.engine_.reply_sends(), nullptr);
  incoming.read = true;
  if (incoming.kind == Kind::large_request) {
    // Its caller learns now that it has been read: the handler may take longer than the caller waits.
    channel.engine_.flush_early(channel);
    if (channel.state_ != State::open) return;
  }
  if (incoming.kind == Kind::large_message) {
    channel.deliver_ordered();
  } else {
    channel.finish_read(incoming);
  }
  channel.engine_.range_came_back();  // the next one may be read
}

// The handler sees the message where it was read to; then the range goes to whoever waits for one.
void Channel::finish_read(Incoming& incoming) {
  const std::span<const std::byte> payload(incoming.memory, incoming.length);
  if (std::exchange(incoming.is_in_place, false)) {
    --places_;
    incoming.in_place.release();
    incoming.memory = nullptr;  // it isn't ours to give back
  }
  const std::uint32_t serial = serial_;
  const bool credited = needs_credit(incoming.kind);
  engine_.statistics().bytes_received += payload.size();
  if (incoming.kind == Kind::large_message) {
    if (message_handler && !is_closing()) message_handler(payload);
  } else if (incoming.kind == Kind::large_request) {
    delivering_ = &incoming;
    deliver_request(incoming.call, payload);
    delivering_ = nullptr;
  } else if (calls.deliver) {
    calls.deliver(calls.self, *this, Kind::reply, incoming.call, payload);
  }
  if (serial != serial_ || !incoming.in_use) return;  // ended meanwhile
  incoming.in_use = false;
  if (!incoming.memory)
    return;  // held: its memory and its credit come back with release_request(); or in place
  area_of(incoming.kind).give(std::exchange(incoming.memory, nullptr), incoming.length);
  if (state_ != State::open) return;
  if (credited) {
    ++granted_;
    tell_grant_if_due();
  }
  engine_.range_came_back();
}

void Channel::begin_waiting_reads() noexcept {
  for (auto* waiting : {&waiting_reply_reads_, &waiting_reads_}) {
    while (state_ == State::open && !waiting->empty()) {
      Incoming* const next = waiting->front();
      waiting->pop_front();  // first: a lent one's handler runs within this
      if (begin_read(*next)) continue;
      waiting->push_front(next);
      break;
    }
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
    engine_.statistics().bytes_received += front.body.size();
    if (message_handler && !is_closing()) message_handler(front.body);
    engine_.release_receive(front.held);
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
    incoming->in_place.release();  // the queue pair has been drained
    incoming->is_lent = false;
    if (incoming->in_use && incoming->memory && !incoming->is_in_place)
      area_of(incoming->kind).give(incoming->memory, incoming->length);
    incoming->in_use = false;
    incoming->memory = nullptr;
  }
  for (const Ordered& entry : ordered_) {
    if (entry.held) engine_.release_receive(entry.held);
  }
  ordered_.clear();
  waiting_reads_.clear();
  waiting_reply_reads_.clear();
  waiting_replies_.clear();
  engine_.try_again_soon();  // others may have waited for our memory, or for the end of our reads
}

}  // namespace verbena::transport
