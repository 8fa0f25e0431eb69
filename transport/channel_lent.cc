// SPDX-License-Identifier: Apache-2.0
// Large requests that are lent: the handler reads the caller's pages where they lie.
//
// The caller's word goes as that of any large request, with the loan's generation. Whoever handles it borrows
// the bytes, runs the handler, and gives them back; the word of it rides on the frame that has the reply. So
// a loan lasts as long as the handler runs and no longer: one that keeps the request gets a copy.
#include <algorithm>
#include <utility>

#include "core/copy_bytes.h"
#include "core/monotonic_ns.h"
#include "transport/channel.h"
#include "transport/engine.h"

namespace verbena::transport {

// ---- The lender ----

Exposure Channel::expose_to_lend(Kind kind, const Payload& bytes) noexcept {
  Exposure exposure;
  if (kind != Kind::large_request || bytes.pieces() != 1 || !engine_.options().lend ||
      !engine_.device().lending() || !(theirs_.features & borrows_feature))
    return exposure;
  bytes.for_each(
      [&](std::span<const std::byte> whole) { exposure = engine_.registrations().expose_region(whole); });
  if (exposure && !engine_.device().lending()->can_lend(*exposure.region())) exposure.end();
  return exposure;
}

// False: its handler reads it, and is given some time.
bool Channel::end_loan(Outgoing& outgoing, bool now) noexcept {
  constexpr std::int64_t patience_ns = 1'000'000'000;
  core::Lending& lending = *engine_.device().lending();
  ibv_qp& queue_pair = *queue_pair_->get();
  if (now) {
    if (!lending.evict(queue_pair, outgoing.loan, true)) return false;
  } else if (!lending.recall(queue_pair, outgoing.loan)) {
    const std::int64_t time = core::monotonic_ns();
    if (outgoing.recalled == 0) outgoing.recalled = time;
    if (time - outgoing.recalled < patience_ns || !lending.evict(queue_pair, outgoing.loan, false))
      return false;
  }
  forget_loan(outgoing);
  return true;
}

// Who reads it by its key has to look whether it is current still.
void Channel::forget_loan(Outgoing& outgoing) noexcept {
  outgoing.exposures[0].end();
  outgoing.is_lent = false;
  outgoing.recalled = 0;
  --loans_;
}

// For a reply that came before the loan was given back, and for whoever can't wait.
void Channel::end_loan_of(std::uint32_t slot) noexcept {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.is_lent && outgoing.is_request && outgoing.slot == slot) end_loan(outgoing, true);
  }
}

void Channel::end_all_loans() noexcept {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.is_lent) end_loan(outgoing, true);
  }
}

// ---- The borrower ----

core::Loan Channel::loan_of(const Incoming& incoming) noexcept {
  const LargeBody& piece = incoming.pieces[0];
  return {piece.address, piece.length, piece.key, incoming.token & 0xff, incoming.loan};
}

// False: it can't be had yet.
bool Channel::begin_loan(Incoming& incoming) {
  constexpr std::int64_t mapping_ns = 100'000'000;  // patience with a peer that may be stopped
  core::Lending& lending = *engine_.device().lending();
  ibv_qp& queue_pair = *queue_pair_->get();
  const std::byte* bytes = nullptr;
  switch (lending.borrow(queue_pair, loan_of(incoming), bytes)) {
    case core::Lending::Borrow::here:
      if (!lending.is_same_process(queue_pair)) {
        deliver_lent(incoming, {bytes, incoming.length});
        return true;
      }
      incoming.memory = engine_.large_requests().take(incoming.length);
      if (incoming.memory) core::copy_bytes(incoming.memory, bytes, incoming.length);
      lending.give_back(queue_pair);
      if (!incoming.memory) return false;  // tried again when a range comes back
      incoming.is_lent = false;
      engine_.reads().begin(incoming.length);
      read_done(&incoming, {}, incoming.length);
      return true;
    case core::Lending::Borrow::later: {
      const std::int64_t now = core::monotonic_ns();
      if (incoming.asked == 0) incoming.asked = now;
      engine_.try_again_soon();
      if (now - incoming.asked < mapping_ns) return false;
      break;
    }
    case core::Lending::Borrow::recalled:
      drop_recalled(incoming);
      return true;
    case core::Lending::Borrow::never:
      break;
  }
  incoming.is_lent = false;
  incoming.was_lent = true;  // read_done() looks whether it still is
  return begin_read(incoming);
}

void Channel::deliver_lent(Incoming& incoming, std::span<const std::byte> payload) {
  ibv_qp* const queue_pair = queue_pair_->get();
  const std::uint32_t serial = serial_;
  const std::uint32_t token = incoming.token;
  if (frame_.has_release()) close_frame();  // so that this one's release rides with its reply, too
  ++engine_.statistics().large_messages_lent;
  engine_.statistics().bytes_received += payload.size();
  delivering_ = &incoming;
  lent_ = payload;
  deliver_request(incoming.call, payload);
  const bool is_held = !std::exchange(lent_, {}).data();
  delivering_ = nullptr;
  if (queue_pair_ && queue_pair_->get() == queue_pair) engine_.device().lending()->give_back(*queue_pair);
  if (serial != serial_ || !incoming.in_use) return;  // ended meanwhile
  incoming.in_use = false;
  if (state_ != State::open) return;
  if (!frame_.release(token)) queue_eager(Kind::release, token, {}, {}, engine_.reply_sends(), nullptr);
  if (is_held) return;  // its credit comes back with release_request()
  ++granted_;
  tell_grant_if_due();
}

// Its caller has given the call up, and still waits for the place of the reply.
void Channel::drop_recalled(Incoming& incoming) noexcept {
  incoming.in_use = false;
  if (state_ != State::open) return;
  send_reply({incoming.call.slot, incoming.call.generation, 0, static_cast<std::int32_t>(errc::cancelled)},
             {});
  queue_eager(Kind::release, incoming.token, {}, {}, engine_.reply_sends(), nullptr);
  ++granted_;
  tell_grant_if_due();
}

// A copy goes to whoever keeps it: what is lent is given back when the handler ends.
bool Channel::hold_lent(Bytes& part, std::byte*& range, std::size_t& length) noexcept {
  range = engine_.large_requests().take(lent_.size());
  if (!range) return false;
  length = lent_.size();
  core::copy_bytes(range, lent_.data(), lent_.size());
  part = {range + (part.data() - lent_.data()), part.size()};
  lent_ = {};
  return true;
}

}  // namespace verbena::transport
