// SPDX-License-Identifier: Apache-2.0
// What an arriving entry does: fills a receive, or serves a request of the peer.
//
// Everything in the ring is the peer's word. An entry's word is read once; its length and counts are checked
// before they are used; what is wrong fails this queue pair, and nothing else.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/copy_bytes.h"
#include "core/monotonic_ns.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/not_ready_timer.h"
#include "core/soft/pieces.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {

int QueuePair::post_receive(ibv_recv_wr* request, ibv_recv_wr** bad) noexcept {
  CompletionQueue& cq = receive_completions();
  const std::lock_guard guard(cq.lock);
  int break_off = 0;
  for (; request; request = request->next) {
    int error = shared_receives || current_state() == IBV_QPS_RESET ? EINVAL : 0;
    if (!error) error = receives.post(*request);
    if (error) {
      *bad = request;
      break_off = error;
      break;
    }
    ++receives_posted;
  }
  if (link.in)
    link.in->receives.store(receives_posted, std::memory_order_relaxed);  // the receives stay on our side
  if (current_state() == IBV_QPS_ERR) {
    flush_receives();
    if (has_receives_to_flush()) cq.add_backlog(*this);
  }
  return break_off;
}

void QueuePair::receive() noexcept {
  unfinished_ = false;
  if (current_state() == IBV_QPS_ERR) return flush_receives();
  if (!link.in || refusing_) {
    if (listens()) receive_datagrams();
    return;
  }
  constexpr int most_entries = 256;  // of one visit: nobody else starves
  for (int i = 0; i < most_entries; ++i) {
    Slot& slot = link.first_slot();
    const std::uint64_t word = slot.word.load(std::memory_order_acquire);  // pairs with publish
    if (!link.has_entry(word)) return;
    order_acquired_by(qp_num);
    // Checked where it is used. Release: what the peer has done with what it acknowledges, which the word's
    // acquire has shown to this thread, is shown to the one that hears.
    link.heard.store(slot.acknowledged, std::memory_order_release);
    if (take_short_message(slot, word)) [[likely]]
      continue;
    if (!take_entry(slot, word)) return;
  }
  if (!is_direct) stay_unfinished();
}

bool QueuePair::stay_unfinished() noexcept {
  unfinished_ = true;
  receive_completions().add_backlog(*this);
  return false;
}

bool QueuePair::may_fill(std::uint32_t lkey, const std::byte* memory, std::uint32_t length) const noexcept {
  return owner_context.keys().covers(lkey, receive_domain_, reinterpret_cast<std::uint64_t>(memory), length,
                                     IBV_ACCESS_LOCAL_WRITE);
}

// The shortest way: a whole message in one slot, into the one piece of the next receive. False, and nothing
// done, where it is anything else.
bool QueuePair::take_short_message(const Slot& slot, std::uint64_t word) noexcept {
  constexpr auto whole = static_cast<std::uint32_t>(SlotKind::send) << 8 | slot_flag::first | slot_flag::last;
  const std::uint32_t kind_and_flags = word >> 32 & 0xffff;
  const auto length = static_cast<std::uint32_t>(word);
  CompletionQueue& completions = receive_completions();
  if ((kind_and_flags & ~std::uint32_t{slot_flag::solicited}) != whole || length > sizeof slot.payload ||
      receiving_ || !completions.has_room()) {
    return false;
  }
  ReceiveQueue* const queue = shared_receives ? shared_receives->exclusive() : &receives;
  if (!queue) return false;
  const ReceiveQueue::Front receive = queue->front();
  if (!receive.pieces || receive.count != 1 || length > receive.pieces->length) return false;
  auto* const to = reinterpret_cast<std::byte*>(receive.pieces->addr);
  if (!may_fill(receive.pieces->lkey, to, length)) return false;
  copy_bytes(to, slot.payload, length);
  ibv_wc& completion = completions.add(IBV_WC_SUCCESS, kind_and_flags & slot_flag::solicited);
  completion.wr_id = receive.wr_id;
  completion.opcode = IBV_WC_RECV;
  completion.byte_len = length;
  completion.qp_num = qp_num;
  completion.src_qp = link.peer_number;
  queue->pop();
  if (shared_receives) shared_receives->check_limit();
  not_ready_since_ = 0;
  link.consume(1);
  return true;
}

bool QueuePair::take_entry(Slot& slot, std::uint64_t word) noexcept {
  const auto kind = static_cast<SlotKind>(word >> 40 & 0xff);
  const auto flags = static_cast<std::uint8_t>(word >> 32);
  const auto length = static_cast<std::uint32_t>(word);
  if (qp_type == IBV_QPT_XRC_RECV && kind <= SlotKind::write_notice)
    return take_for_named(slot, kind, flags, length);
  return take_incoming(slot, kind, flags, length);
}

bool QueuePair::take_incoming(Slot& slot, SlotKind kind, std::uint8_t flags, std::uint32_t length) noexcept {
  if (!delivery_->has_room()) {
    if (kind <= SlotKind::write_notice && receives_wait()) delivery_->report_overrun();
    return stay_unfinished();
  }
  if (!is_reliable() && loses(slot, kind, flags, length)) return true;
  switch (kind) {
    case SlotKind::send:
      return take_message(slot, flags, length);
    case SlotKind::send_described:
      return take_described(slot, flags, length);
    case SlotKind::write_notice:
      return take_notice(slot, flags, length);
    case SlotKind::write_payload:
      return serve_write(slot, length);
    case SlotKind::read_request:
      return serve_read(slot);
    case SlotKind::atomic_request:
      return serve_atomic(slot);
    case SlotKind::response:
      return take_response(slot, length);
    case SlotKind::receive_queue:
      return take_named(slot);
    case SlotKind::access_fault: {
      link.consume(1);
      ibv_async_event event{};
      event.event_type = IBV_EVENT_QP_ACCESS_ERR;
      event.element.qp = this;
      owner_context.events().push(event);
      enter_error();
      return false;
    }
  }
  fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
  return false;
}

bool QueuePair::receives_wait() const noexcept {
  return receiving_ || (receives_from_ ? receives_from_->queue.size() : receives.size()) != 0;
}

bool QueuePair::has_receive() noexcept {
  if (receiving_) return true;
  receiving_ = receives_from_ ? receives_from_->take(current_receive_) : receives.take(current_receive_);
  received_ = described_ = 0;
  if (receiving_ && owner_context.keys().has_renamed()) [[unlikely]]
    owner_context.keys().translate({current_receive_.pieces.data(), current_receive_.count}, true);
  return receiving_;
}

bool QueuePair::begin_receive() noexcept {
  if (!has_receive()) return wait_for_receive();
  not_ready_since_ = 0;
  return true;
}

bool QueuePair::has_space_for(std::uint32_t length) const noexcept {
  std::uint64_t room = 0;
  for (const ibv_sge& piece : current_receive_.list()) room += piece.length;
  return received_ + std::uint64_t{length} <= room;
}

// Unreliable service: what meets no receive, or one that is too short, is lost as if on its way here, the
// rest of its message with it. The receive waits for the next one. False: it can be taken.
bool QueuePair::loses(Slot& slot, SlotKind kind, std::uint8_t flags, std::uint32_t length) noexcept {
  std::uint32_t slots = 1;
  if (kind == SlotKind::send) {
    if (length > fragment_size(link.in_slots)) return false;  // wrong, and dealt with as such
    slots = slots_for(length);
  } else if (kind == SlotKind::send_described) {
    Piece count;
    std::memcpy(&count, slot.payload, sizeof count);
    if (count.address > max_pieces) return false;
    slots = slots_for(static_cast<std::uint32_t>((count.address + 1) * sizeof(Piece)));
    if (receiving_ && described_ != 0) return false;  // in the middle of it
  } else if (kind != SlotKind::write_notice) {
    return false;
  }
  const bool takes_bytes = kind != SlotKind::write_notice;
  if (flags & slot_flag::first) losing_ = false;
  if (!losing_) losing_ = !has_receive() || (takes_bytes && !has_space_for(length));
  if (!losing_) return false;
  if (flags & slot_flag::last) losing_ = false;
  lose_entry(slots);
  return true;
}

void QueuePair::lose_entry(std::uint32_t slots) noexcept {
  received_ = described_ = 0;
  link.consume(slots);
}

// Receiver not ready: the entry stays. The requester's retry count and our timer say for how long.
bool QueuePair::wait_for_receive() noexcept {
  const std::int64_t now = monotonic_ns();
  if (not_ready_since_ == 0) not_ready_since_ = now;
  receive_completions().add_backlog(*this);
  constexpr std::uint32_t for_ever = 7;
  const std::uint32_t retries = link.in->not_ready_retries.load(std::memory_order_relaxed);
  if (retries >= for_ever) return false;
  const std::int64_t limit = not_ready_timer_ns(attributes.min_rnr_timer) * (retries + 1);
  if (now - not_ready_since_ > limit) {
    not_ready_since_ = 0;
    refuse(IBV_WC_RNR_RETRY_EXC_ERR);  // the requester's queue pair fails; ours is well
  }
  return false;
}

void QueuePair::refuse(ibv_wc_status theirs) noexcept {
  if (!is_reliable()) return;  // nobody is told
  refusing_ = true;
  link.in->progress.store(Progress{link.in_head, static_cast<std::uint8_t>(theirs)}.pack(),
                          std::memory_order_release);
  light_fence(link.fence);
  if (link.in->wants_event.load(std::memory_order_relaxed)) link.answer_wish();
}

bool QueuePair::scatter(const std::byte* from, std::uint32_t length) noexcept {
  bool permitted = true;
  const std::uint32_t copied = for_each_part(current_receive_.list(), received_, length,
                                             [&](const ibv_sge& piece, std::byte* to, std::uint32_t part) {
                                               permitted = may_fill(piece.lkey, to, part);
                                               if (!permitted) return false;
                                               copy_bytes(to, from, part);
                                               from += part;
                                               return true;
                                             });
  received_ += length;
  if (copied == length) return true;
  fail_receive(permitted ? IBV_WC_LOC_LEN_ERR : IBV_WC_LOC_PROT_ERR,
               permitted ? IBV_WC_REM_INV_REQ_ERR : IBV_WC_REM_OP_ERR);
  return false;
}

bool QueuePair::take_message(Slot& slot, std::uint8_t flags, std::uint32_t length) noexcept {
  const bool is_first = flags & slot_flag::first;
  if (length > fragment_size(link.in_slots) || (is_first && received_ != 0 && receiving_) ||
      (!is_first && !receiving_)) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  if (!begin_receive() || !scatter(slot.payload, length)) return false;
  if (flags & slot_flag::last) finish_receive(slot, flags, IBV_WC_RECV, received_);
  if (current_state() == IBV_QPS_ERR) return false;
  link.consume(slots_for(length));
  return true;
}

bool QueuePair::take_described(Slot& slot, std::uint8_t flags, std::uint32_t length) noexcept {
  Piece count;
  std::memcpy(&count, slot.payload, sizeof count);
  if (count.address > max_pieces) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  const auto pieces = static_cast<std::uint32_t>(count.address);
  if (!link.out) return stay_unfinished();
  if (!begin_receive()) return false;
  while (described_ < pieces) {
    Piece piece;
    std::memcpy(&piece, slot.payload + (described_ + 1) * sizeof piece, sizeof piece);
    switch (copy_described(piece)) {
      case Step::done:
        ++described_;
        break;
      case Step::blocked:
        return stay_unfinished();
      case Step::failed:
        if (is_reliable() || current_state() == IBV_QPS_ERR) return false;
        lose_entry(slots_for(static_cast<std::uint32_t>((pieces + 1) * sizeof(Piece))));
        return true;
    }
  }
  if (received_ != length) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  finish_receive(slot, flags, IBV_WC_RECV, length);
  if (current_state() == IBV_QPS_ERR) return false;
  link.consume(slots_for(static_cast<std::uint32_t>((pieces + 1) * sizeof(Piece))));
  return true;
}

QueuePair::Step QueuePair::copy_described(const Piece& piece) noexcept {
  if (piece.length == 0) return Step::done;
  if (!has_space_for(piece.length)) {
    fail_receive(IBV_WC_LOC_LEN_ERR, IBV_WC_REM_INV_REQ_ERR);
    return Step::failed;
  }
  std::byte* mapped = nullptr;
  const Reach way = reach(Role::responder, piece.key, piece.address, piece.length, 0, mapped);
  if (faults_ && (way == Reach::mapped || way == Reach::kernel)) [[unlikely]]
    come_late(Role::responder);
  if (way == Reach::mapped) {
    // scatter may fail the queue pair, which waits for the peer, which may be waiting for this hazard:
    // withdraw first.
    const bool fits = receive_pieces_valid(piece.length);
    if (fits) scatter(mapped, piece.length);
    const bool granted = still_granted(piece.key);
    link.withdraw(Role::responder);
    if (fits && !granted) return take_back(piece.length);
    if (!fits) fail_receive(IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR);
    return fits ? Step::done : Step::failed;
  }
  int error = 0;
  bool valid = true;
  if (way == Reach::kernel) {
    valid = receive_pieces_valid(piece.length);
    if (valid)
      error = copy_by_kernel(current_receive_.list(), received_, reinterpret_cast<std::uint64_t>(mapped),
                             piece.length, false);
  }
  const bool granted = still_granted(piece.key);
  link.withdraw(Role::responder);
  if (!valid) {
    fail_receive(IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR);
    return Step::failed;
  }
  if (way == Reach::later || error == ESRCH) {
    // Service without acknowledgements goes on when its peer has died: what can't be had any more is lost.
    return !is_reliable() && link.is_dead() ? Step::failed : Step::blocked;
  }
  if (way == Reach::refused || way == Reach::target || error != 0) {
    refuse(way == Reach::refused ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_OP_ERR);
    return Step::failed;
  }
  received_ += piece.length;
  return granted ? Step::done : take_back(piece.length);
}

// The sender has taken its memory back while we read it: what we have is worth nothing, and the message never
// came.
QueuePair::Step QueuePair::take_back(std::uint32_t length) noexcept {
  received_ -= length;
  if (!link.is_up()) return Step::blocked;  // until our own end fails
  refuse(IBV_WC_LOC_PROT_ERR);
  return Step::failed;
}

bool QueuePair::receive_pieces_valid(std::uint32_t length) const noexcept {
  return for_each_part(current_receive_.list(), received_, length,
                       [&](const ibv_sge& piece, const std::byte* to, std::uint32_t part) {
                         return may_fill(piece.lkey, to, part);
                       }) == length;
}

bool QueuePair::take_notice(Slot& slot, std::uint8_t flags, std::uint32_t length) noexcept {
  if (receiving_ && is_reliable()) {  // in the middle of a message
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  if (!begin_receive()) return false;
  finish_receive(slot, flags, IBV_WC_RECV_RDMA_WITH_IMM, length);
  if (current_state() == IBV_QPS_ERR) return false;
  link.consume(1);
  return true;
}

void QueuePair::finish_receive(const Slot& slot, std::uint8_t flags, ibv_wc_opcode opcode,
                               std::uint32_t length) noexcept {
  if ((flags & slot_flag::invalidate) && !invalidate_window(slot.immediate)) {
    return fail_receive(IBV_WC_LOC_QP_OP_ERR, IBV_WC_REM_INV_REQ_ERR);
  }
  receiving_ = false;
  ibv_wc& completion = delivery_->add(IBV_WC_SUCCESS, flags & slot_flag::solicited);
  completion.wr_id = current_receive_.wr_id;
  completion.opcode = opcode;
  completion.byte_len = length;
  completion.imm_data = slot.immediate;
  completion.qp_num = qp_num;
  completion.src_qp = link.peer_number;
  if (flags & slot_flag::immediate) completion.wc_flags |= IBV_WC_WITH_IMM;
  if (flags & slot_flag::invalidate) completion.wc_flags |= IBV_WC_WITH_INV;
}

void QueuePair::complete_receive(std::uint64_t id, ibv_wc_status status) noexcept {
  ibv_wc& completion = delivery_->add(status, false);
  completion.wr_id = id;
  completion.opcode = IBV_WC_RECV;
  completion.qp_num = qp_num;
}

// `ours` success: there is no receive to blame.
void QueuePair::fail_receive(ibv_wc_status ours, ibv_wc_status theirs) noexcept {
  refuse(theirs);
  if (receiving_ && ours != IBV_WC_SUCCESS) {
    receiving_ = false;
    complete_receive(current_receive_.wr_id, ours);  // take_entry saw that there is room
  }
  enter_error();
}

bool QueuePair::has_receives_to_flush() const noexcept {
  return current_state() == IBV_QPS_ERR && (receiving_ || receives.size() != 0);
}

// Of a shared receive queue's receives this queue pair takes no more: those that are left may be anybody's.
void QueuePair::tell_last_receive() noexcept {
  if (std::exchange(told_last_receive_, true)) return;
  ibv_async_event event{};
  event.event_type = IBV_EVENT_QP_LAST_WQE_REACHED;
  event.element.qp = this;
  owner_context.events().push(event);
}

void QueuePair::flush_receives() noexcept {
  if (parting.load(std::memory_order_acquire) != Parting::over) return;
  CompletionQueue& cq = receive_completions();
  not_ready_since_ = 0;
  if (qp_type == IBV_QPT_XRC_RECV) return flush_for_named();
  if (receiving_ && cq.has_room()) {
    receiving_ = false;
    complete_receive(current_receive_.wr_id, IBV_WC_WR_FLUSH_ERR);
  }
  while (!receiving_ && cq.has_room() && receives.take(current_receive_)) {
    complete_receive(current_receive_.wr_id, IBV_WC_WR_FLUSH_ERR);
  }
  if (has_receives_to_flush() && !cq.has_room()) cq.report_overrun();
  if (shared_receives && !receiving_) tell_last_receive();
}

}  // namespace verbena::core::soft
