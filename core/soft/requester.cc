// SPDX-License-Identifier: Apache-2.0
// What a posted send does: it goes into the peer's ring, or is carried out at once on the peer's memory.
//
// Order: entries enter the ring in the order posted, and completions come in the order posted. A one-sided
// operation is carried out when all before it has been carried out or has entered the ring: its bytes may be
// placed before the peer has *consumed* an earlier message, as an HCA's may be before the peer has polled it.
#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>

#include "core/copy_bytes.h"
#include "core/monotonic_ns.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/pieces.h"
#include "core/soft/place.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

bool is_send(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_SEND_WITH_INV;
}

bool writes_locally(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_RDMA_READ || opcode == IBV_WR_ATOMIC_CMP_AND_SWP ||
         opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

bool takes_receive(ibv_wr_opcode opcode) {
  return is_send(opcode) || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

/// For a process that is alive: until its agent has been scheduled and has answered.
constexpr std::int64_t meeting_bound_ns = 1'000'000'000;

/// What service without acknowledgements carries.
bool is_unreliable_verb(ibv_qp_type type, ibv_wr_opcode opcode) {
  if (opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM) return true;
  return type == IBV_QPT_UC && (opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM);
}

ibv_wc_opcode completion_opcode(ibv_wr_opcode opcode) {
  switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return IBV_WC_RDMA_WRITE;
    case IBV_WR_RDMA_READ:
      return IBV_WC_RDMA_READ;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
      return IBV_WC_COMP_SWAP;
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return IBV_WC_FETCH_ADD;
    case IBV_WR_BIND_MW:
      return IBV_WC_BIND_MW;
    case IBV_WR_LOCAL_INV:
      return IBV_WC_LOCAL_INV;
    default:
      return IBV_WC_SEND;
  }
}

}  // namespace

int QueuePair::post_send(ibv_send_wr* request, ibv_send_wr** bad) noexcept {
  return post_all<false>(request, bad);
}

int QueuePair::post_send_by_plan(ibv_send_wr* request, ibv_send_wr** bad) noexcept {
  return post_all<true>(request, bad);
}

template <bool by_plan>
inline int QueuePair::post_all(ibv_send_wr* request, ibv_send_wr** bad) noexcept {
  const std::lock_guard guard(send_completions().lock);
  for (; request; request = request->next) {
    if (const int error = post_one<by_plan>(*request)) [[unlikely]] {
      *bad = request;
      return error;
    }
  }
  return 0;
}

// By a fault plan nothing takes a shortest way: there is no fault on those; nor by XRC, as they name no
// receive queue.
template <bool by_plan>
inline int QueuePair::post_one(const ibv_send_wr& request) noexcept {
  const ibv_qp_state now = current_state();
  if (!by_plan && now == IBV_QPS_RTS && !sends.has_waiting() && broken_ == IBV_WC_SUCCESS) [[likely]] {
    if (request.opcode == IBV_WR_SEND && post_small_send(request)) return 0;
    if (request.opcode == IBV_WR_RDMA_WRITE && post_mapped_write(request)) return 0;
  }
  if (now != IBV_QPS_RTS && now != IBV_QPS_SQD && now != IBV_QPS_ERR) return EINVAL;
  std::uint32_t length = 0;
  if (const int error = check_request(request, length)) return error;
  if (sends.is_full()) retire_acknowledged();  // what a peer is known to have, before more memory
  if (sends.is_full() && !sends.grow()) {
    retire(true);
    if (sends.is_full()) return ENOMEM;
  }
  enqueue(request, length);
  if (now == IBV_QPS_RTS) by_plan && (faults_ || trace_) ? advance_by_plan() : advance();
  if (now == IBV_QPS_ERR) flush_sends();
  if (!sends.is_empty()) send_completions().add_sender(*this);
  if (send_completions().is_armed()) [[unlikely]]
    retire(false);  // its user may sleep already: what was done right here is told right here
  return 0;
}

int QueuePair::post_whole(ibv_send_wr* requests) noexcept {
  const std::lock_guard guard(send_completions().lock);
  const ibv_qp_state now = current_state();
  if (now != IBV_QPS_RTS && now != IBV_QPS_SQD && now != IBV_QPS_ERR) return EINVAL;
  std::uint32_t count = 0;
  for (const ibv_send_wr* request = requests; request; request = request->next, ++count) {
    std::uint32_t length = 0;
    if (const int error = check_request(*request, length)) return error;
  }
  if (!sends.make_room(count)) {
    retire(true);
    if (!sends.make_room(count)) return ENOMEM;
  }
  for (const ibv_send_wr* request = requests; request; request = request->next)
    faults_ || trace_ || qp_type == IBV_QPT_XRC_SEND
        ? post_one<true>(*request)
        : post_one<false>(*request);  // nothing is left to be refused
  return 0;
}

// The shortest way: one slot, one line. Cost: a key check, a copy, two stores into the slot, one load of the
// peer's attention.
bool QueuePair::post_small_send(const ibv_send_wr& request) noexcept {
  if (request.num_sge != 1 || sends.is_full() || !link.is_up()) return false;
  const ibv_sge& piece = request.sg_list[0];
  const bool is_inline = request.send_flags & IBV_SEND_INLINE;
  if (piece.length > sizeof(Slot::payload) || !link.has_room(1)) return false;
  if (is_inline ? piece.length > sends.inline_size() : !local_pieces_valid({&piece, 1}, 0)) return false;
  copy_bytes(link.next_slot().payload, reinterpret_cast<const std::byte*>(piece.addr), piece.length);
  const bool solicited = request.send_flags & IBV_SEND_SOLICITED;
  const auto flags =
      static_cast<std::uint8_t>(slot_flag::first | slot_flag::last | (solicited ? slot_flag::solicited : 0));
  link.publish(SlotKind::send, flags, piece.length, piece.length, 0);
  link.call_peer(solicited);

  ++messages_sent_;
  sends.rewind_if_empty();
  SendRequest& entry = sends.at(sends.tail);
  entry.wr_id = request.wr_id;
  entry.stage = SendRequest::Stage::sent;
  entry.signalled = signal_all || (request.send_flags & IBV_SEND_SIGNALED);
  entry.opcode = IBV_WR_SEND;
  entry.end = link.out_tail;
  entry.length = piece.length;
  sends.next = ++sends.tail;
  if (!in_senders) send_completions().add_sender(*this);
  return true;
}

// The other shortest way: a write through a key that was looked up before into memory that is mapped here.
bool QueuePair::post_mapped_write(const ibv_send_wr& request) noexcept {
  const KnownKey& known = known_write_;
  if (request.num_sge != 1 || sends.is_full() || has_target_write_ || !messages_are_expected() ||
      KeyEntry::key_of(known.word) != request.wr.rdma.rkey || !known.entry || !link.out) {
    return false;
  }
  const ibv_sge& piece = request.sg_list[0];
  const bool is_inline = request.send_flags & IBV_SEND_INLINE;
  if (is_inline ? piece.length > sends.inline_size() : !local_pieces_valid({&piece, 1}, 0)) return false;
  const std::uint64_t offset = request.wr.rdma.remote_addr - known.address;
  if (offset > known.length || piece.length > known.length - offset) return false;

  link.announce(Role::requester, request.wr.rdma.rkey);
  bool valid =
      still_mapped(known) && (link.out->access.load(std::memory_order_relaxed) & IBV_ACCESS_REMOTE_WRITE);
  if (valid) [[likely]] {
    place(known.mapped + offset, reinterpret_cast<const std::byte*>(piece.addr), piece.length);
    valid = still_granted(known);
  }
  link.withdraw(Role::requester);
  if (!valid) [[unlikely]]
    return false;

  const bool signalled = signal_all || (request.send_flags & IBV_SEND_SIGNALED);
  if (sends.is_empty() && !signalled) return true;
  SendRequest& entry = sends.at(sends.tail);
  entry.wr_id = request.wr_id;
  entry.signalled = signalled;
  entry.opcode = IBV_WR_RDMA_WRITE;
  entry.length = piece.length;
  if (sends.is_empty() && send_completions().has_room()) {
    complete(entry, IBV_WC_SUCCESS);
    return true;
  }
  entry.stage = SendRequest::Stage::answered;
  sends.next = ++sends.tail;
  if (!in_senders) send_completions().add_sender(*this);
  return true;
}

int QueuePair::check_request(const ibv_send_wr& request, std::uint32_t& length) const noexcept {
  const bool is_inline = request.send_flags & IBV_SEND_INLINE;
  if (request.num_sge < 0 || static_cast<std::uint32_t>(request.num_sge) > sends.gather()) return EINVAL;
  std::uint64_t total = 0;
  for (int i = 0; i < request.num_sge; ++i) total += request.sg_list[i].length;
  constexpr std::uint64_t longest = 1ull << 31;  // IBTA: a message is at most 2^31 bytes
  if (total > longest) return EINVAL;
  length = static_cast<std::uint32_t>(total);
  if (!is_reliable() && !is_unreliable_verb(qp_type, request.opcode)) return EINVAL;
  if (qp_type == IBV_QPT_UD && !request.wr.ud.ah) return EINVAL;
  switch (request.opcode) {
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
    case IBV_WR_SEND_WITH_INV:
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return is_inline && length > sends.inline_size() ? EINVAL : 0;
    case IBV_WR_RDMA_READ:
      return is_inline ? EINVAL : 0;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return is_inline || length != 8 ? EINVAL : 0;
    case IBV_WR_LOCAL_INV:
      return 0;
    case IBV_WR_BIND_MW:
      return request.bind_mw.mw &&
                     request.bind_mw.mw->type ==
                         (request.send_flags & by_bind_verb ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2) &&
                     key_index(request.bind_mw.rkey) == key_index(request.bind_mw.mw->rkey)
                 ? 0
                 : EINVAL;
    default:
      return EOPNOTSUPP;
  }
}

void QueuePair::enqueue(const ibv_send_wr& request, std::uint32_t length) noexcept {
  const std::uint32_t position = sends.tail;
  SendRequest& entry = sends.at(position);
  entry = {};
  entry.wr_id = request.wr_id;
  entry.signalled = signal_all || (request.send_flags & IBV_SEND_SIGNALED);
  entry.fenced = request.send_flags & IBV_SEND_FENCE;
  entry.opcode = request.opcode;
  entry.length = length;
  entry.flags = request.send_flags & IBV_SEND_SOLICITED ? slot_flag::solicited : std::uint8_t{0};
  entry.immediate = request.imm_data;
  if (request.opcode == IBV_WR_SEND_WITH_IMM || request.opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
    entry.flags |= slot_flag::immediate;
  } else if (request.opcode == IBV_WR_SEND_WITH_INV) {
    entry.flags |= slot_flag::invalidate;
    entry.immediate = request.invalidate_rkey;
  } else if (request.opcode == IBV_WR_LOCAL_INV) {
    entry.rkey = request.invalidate_rkey;
  } else if (request.opcode == IBV_WR_BIND_MW) {
    entry.window = request.bind_mw.mw;
    entry.rkey = request.bind_mw.rkey;
    entry.bind = request.bind_mw.bind_info;
  }
  if (qp_type == IBV_QPT_UD) {
    const auto& address = static_cast<const AddressHandle&>(*request.wr.ud.ah);
    entry.remote_address = address.is_here ? 1 : 0;
    entry.path = address.path;
    entry.rkey = request.wr.ud.remote_qpn & 0xff'ffff;
    entry.compare_add = request.wr.ud.remote_qkey;
  } else if (request.opcode == IBV_WR_ATOMIC_CMP_AND_SWP || request.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
    entry.remote_address = request.wr.atomic.remote_addr;
    entry.rkey = request.wr.atomic.rkey;
    entry.compare_add = request.wr.atomic.compare_add;
    entry.swap = request.wr.atomic.swap;
  } else if (request.opcode == IBV_WR_RDMA_WRITE || request.opcode == IBV_WR_RDMA_WRITE_WITH_IMM ||
             request.opcode == IBV_WR_RDMA_READ) {
    entry.remote_address = request.wr.rdma.remote_addr;
    entry.rkey = request.wr.rdma.rkey;
  }
  if (qp_type == IBV_QPT_XRC_SEND && takes_receive(request.opcode))
    entry.swap = request.qp_type.xrc.remote_srqn;
  if (request.opcode == IBV_WR_LOCAL_INV || request.opcode == IBV_WR_BIND_MW) {
    ++sends.tail;
    return;
  }
  entry.is_inline = request.send_flags & IBV_SEND_INLINE;
  if (entry.is_inline) {
    std::byte* to = sends.inline_bytes(position);
    sends.pieces(position)[0] = {reinterpret_cast<std::uint64_t>(to), length, 0};
    entry.pieces = length ? 1 : 0;
    for (int i = 0; i < request.num_sge; ++i) {
      std::memcpy(to, reinterpret_cast<const void*>(request.sg_list[i].addr), request.sg_list[i].length);
      to += request.sg_list[i].length;
    }
  } else {
    entry.pieces = static_cast<std::uint32_t>(request.num_sge);
    std::copy_n(request.sg_list, request.num_sge, sends.pieces(position));
    if (owner_context.keys().has_renamed()) [[unlikely]]
      owner_context.keys().translate({sends.pieces(position), entry.pieces}, writes_locally(request.opcode));
  }
  ++sends.tail;
}

void QueuePair::advance() noexcept {
  while (sends.has_waiting() && broken_ == IBV_WC_SUCCESS && refused_ == IBV_WC_SUCCESS) {
    if (carry_out(sends.at(sends.next), sends.next) != Step::done) return;
    ++sends.next;
  }
}

QueuePair::Step QueuePair::carry_out(SendRequest& request, std::uint32_t position) noexcept {
  if (request.opcode == IBV_WR_LOCAL_INV) return invalidate_local(request);
  if (request.opcode == IBV_WR_BIND_MW) return bind_window(request);
  if (datagrams) return send_datagram(request, position);
  if (!is_reliable() && (!link.is_up() || link.is_dead())) return lose_or_wait(request);
  if (!may_send()) return Step::blocked;
  if (qp_type == IBV_QPT_XRC_SEND && !name_receive_queue(request)) return Step::blocked;
  if (is_send(request.opcode)) {
    return describable(request, position) ? send_described(request, position)
                                          : send_message(request, position);
  }
  if (has_target_write_) {
    look_at_peer();
    if (static_cast<std::int32_t>(link.out_consumed - target_write_end_) < 0) return Step::blocked;
    has_target_write_ = false;
  }
  if (request.opcode == IBV_WR_ATOMIC_CMP_AND_SWP || request.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
    return carry_out_atomic(request, position);
  }
  return read_or_write(request, position);
}

// Nobody says whether what goes out arrives; but a peer that is alive gets the time to be there.
QueuePair::Step QueuePair::lose_or_wait(SendRequest& request) noexcept {
  const std::int64_t now = monotonic_ns();
  if (waiting_since_ == 0) waiting_since_ = now;
  if (link.peer && !link.is_dead() && now - waiting_since_ < meeting_bound_ns) return Step::blocked;
  request.stage = SendRequest::Stage::answered;
  return Step::done;
}

// Ahead of the first message for it: those behind are for the same one.
bool QueuePair::name_receive_queue(const SendRequest& request) noexcept {
  const auto wanted = static_cast<std::uint32_t>(request.swap);
  if (!takes_receive(request.opcode) || wanted == named_) return true;
  if (!link.has_room(1)) look_at_peer();
  if (!link.has_room(1)) return false;
  link.publish(SlotKind::receive_queue, 0, 0, 0, wanted);
  link.call_peer(false);
  named_ = wanted;
  return true;
}

bool QueuePair::may_send() noexcept {
  if (link.is_up()) [[likely]] {
    waiting_since_ = 0;
    return true;
  }
  if (link.is_dead()) {
    look_at_peer();  // it may have said why before it failed
    if (refused_ == IBV_WC_SUCCESS) broken_ = IBV_WC_RETRY_EXC_ERR;
    return false;
  }
  if (waiting_since_ == 0) waiting_since_ = monotonic_ns();
  check_patience();
  return false;
}

// As an HCA: (retry_cnt + 1) tries of 4.096 µs × 2^timeout each. 0: for ever, as timeout 0 says.
std::int64_t QueuePair::ack_patience_ns() const noexcept {
  if (attributes.timeout == 0) return 0;
  return (attributes.retry_cnt + 1) * (std::int64_t{4096} << attributes.timeout);
}

// A process that is alive gets at least `meeting_bound_ns`.
void QueuePair::check_patience() noexcept {
  const std::int64_t tries = ack_patience_ns();
  if (tries == 0) return;
  const std::int64_t patience = link.peer ? std::max(tries, meeting_bound_ns) : tries;
  if (monotonic_ns() - waiting_since_ > patience) broken_ = IBV_WC_RETRY_EXC_ERR;
}

bool QueuePair::local_pieces_valid(std::span<const ibv_sge> pieces, unsigned access) const noexcept {
  const KeyTable& keys = owner_context.keys();
  return std::ranges::all_of(pieces, [&](const ibv_sge& piece) {
    return piece.length == 0 || keys.covers(piece.lkey, domain.number, piece.addr, piece.length, access);
  });
}

void QueuePair::gather(const SendRequest& request, std::uint32_t position, std::uint32_t offset,
                       std::byte* to, std::uint32_t length) noexcept {
  for_each_part({sends.pieces(position), request.pieces}, offset, length,
                [&](const ibv_sge&, const std::byte* from, std::uint32_t part) {
                  copy_bytes(to, from, part);
                  to += part;
                  return true;
                });
}

QueuePair::Step QueuePair::send_message(SendRequest& request, std::uint32_t position) noexcept {
  if (!request.is_inline && !local_pieces_valid({sends.pieces(position), request.pieces}, 0)) {
    return fail_with(IBV_WC_LOC_PROT_ERR);
  }
  for (;;) {
    const std::uint32_t length = std::min(request.length - request.moved, fragment_size(link.out_slots));
    const std::uint32_t slots = slots_for(length);
    if (!link.has_room(slots)) look_at_peer();
    if (!link.has_room(slots)) return Step::blocked;
    gather(request, position, request.moved, link.next_slot().payload, length);
    auto flags = static_cast<std::uint8_t>(request.flags | (request.moved == 0 ? slot_flag::first : 0));
    request.moved += length;
    const bool is_last = request.moved == request.length;
    if (is_last) flags |= slot_flag::last;
    link.publish(SlotKind::send, flags, length, length, request.immediate);
    link.call_peer(is_last && (flags & slot_flag::solicited));
    if (is_last) break;
  }
  ++messages_sent_;
  request.stage = SendRequest::Stage::sent;
  request.end = link.out_tail;
  return Step::done;
}

// A long message needn't pass through the ring where the peer can read our memory itself: one copy instead of
// two.
bool QueuePair::describable(const SendRequest& request, std::uint32_t position) noexcept {
  const std::uint32_t worth_it = 2 * fragment_size(link.out_slots);
  if (request.is_inline || request.moved || request.length < worth_it || request.pieces > max_pieces)
    return false;
  if (link.peer->reachable.load(std::memory_order_relaxed) || link.peer->same_process) return true;
  const ibv_sge* pieces = sends.pieces(position);
  return std::all_of(pieces, pieces + request.pieces, [&](const ibv_sge& piece) {
    return owner_context.keys().entry(piece.lkey).memory.load(std::memory_order_relaxed) != 0;
  });
}

QueuePair::Step QueuePair::send_described(SendRequest& request, std::uint32_t position) noexcept {
  const ibv_sge* pieces = sends.pieces(position);
  if (!local_pieces_valid({pieces, request.pieces}, 0)) return fail_with(IBV_WC_LOC_PROT_ERR);
  const auto payload = static_cast<std::uint32_t>((request.pieces + 1) * sizeof(Piece));
  if (!link.has_room(slots_for(payload))) look_at_peer();
  if (!link.has_room(slots_for(payload))) return Step::blocked;
  Piece list[max_pieces + 1] = {{request.pieces, 0, 0}};  // first how many
  for (std::uint32_t i = 0; i < request.pieces; ++i)
    list[i + 1] = {pieces[i].addr, pieces[i].length, pieces[i].lkey};
  std::memcpy(link.next_slot().payload, list, payload);
  const auto flags = static_cast<std::uint8_t>(request.flags | slot_flag::first | slot_flag::last);
  link.publish(SlotKind::send_described, flags, request.length, payload, request.immediate);
  link.call_peer(flags & slot_flag::solicited);
  ++messages_sent_;
  request.stage = SendRequest::Stage::sent;
  request.end = link.out_tail;
  return Step::done;
}

QueuePair::Step QueuePair::send_notice(SendRequest& request) noexcept {
  request.placed = true;
  if (!link.has_room(1)) look_at_peer();
  if (!link.has_room(1)) return Step::blocked;
  const auto flags = static_cast<std::uint8_t>(request.flags | slot_flag::first | slot_flag::last);
  link.publish(SlotKind::write_notice, flags, request.length, 0, request.immediate);
  link.call_peer(flags & slot_flag::solicited);
  ++messages_sent_;
  request.stage = SendRequest::Stage::sent;
  request.end = link.out_tail;
  return Step::done;
}

void QueuePair::look_at_peer() noexcept {
  if (!link.out) return;
  const Progress progress = Progress::unpack(link.out->progress.load(std::memory_order_acquire));
  order_acquired_by(qp_num);
  link.hear(progress.consumed);
  if (progress.status != 0 && refused_ == IBV_WC_SUCCESS && is_reliable()) {
    refused_ = progress.status <= IBV_WC_GENERAL_ERR ? static_cast<ibv_wc_status>(progress.status)
                                                     : IBV_WC_GENERAL_ERR;
  }
}

// False: the completion queue is full.
inline bool QueuePair::complete_done() noexcept {
  while (sends.head != sends.next) {
    const SendRequest& request = sends.at(sends.head);
    if (request.stage == SendRequest::Stage::sent &&
        static_cast<std::int32_t>(link.out_consumed - request.end) < 0) {
      break;
    }
    if (request.signalled) {
      if (!send_completions().has_room()) return send_completions().report_overrun();
      complete(request, IBV_WC_SUCCESS);
    }
    if (trace_) [[unlikely]]
      trace_->done();
    ++sends.head;
    send_completions().note_retired();
  }
  return true;
}

bool QueuePair::retire_acknowledged() noexcept {
  if (sends.has_waiting() || broken_ != IBV_WC_SUCCESS || current_state() != IBV_QPS_RTS) [[unlikely]]
    return false;
  link.hear(link.heard.load(std::memory_order_acquire));  // pairs with receive()
  if (send_cq != recv_cq) link.hear_ahead(qp_num);
  complete_done();
  return true;
}

void QueuePair::retire(bool look) noexcept {
  if (current_state() == IBV_QPS_ERR) return flush_sends();
  const bool was_dead = look && link.is_dead();  // read before its last progress
  if (look) look_at_peer();
  if (deferred_ != 0) retry_datagrams();
  if (sends.has_waiting() && sends.at(sends.next).asked) take_answers();
  link.hear(link.heard.load(std::memory_order_acquire));              // pairs with receive()
  if (was_dead && !is_reliable()) link.out_consumed = link.out_tail;  // what was under way is lost, and done
  for (;;) {
    if (!complete_done()) return;
    if (!sends.has_waiting() || broken_ != IBV_WC_SUCCESS || current_state() != IBV_QPS_RTS) break;
    const std::uint32_t before = sends.next;
    faults_ || trace_ ? advance_by_plan() : advance();
    if (sends.next == before) break;
  }
  // The oldest one may have failed already, by itself; the peer then dies of what it was told.
  const bool has_failed = broken_ != IBV_WC_SUCCESS && sends.head == sends.next;
  // Without a request that waits for the peer its end is none of the queue pair's business: both may be
  // ending in peace.
  if (refused_ == IBV_WC_SUCCESS && was_dead && !has_failed && !sends.is_empty() && is_reliable())
    refused_ = IBV_WC_RETRY_EXC_ERR;
  if (refused_ != IBV_WC_SUCCESS) broken_ = refused_;
  if (broken_ != IBV_WC_SUCCESS && (refused_ != IBV_WC_SUCCESS || sends.head == sends.next)) fail_sends();
}

void QueuePair::complete(const SendRequest& request, ibv_wc_status status) noexcept {
  if (status == IBV_WC_SUCCESS && !request.signalled) return;
  ibv_wc& completion = send_completions().add(status, false);
  completion.wr_id = request.wr_id;
  completion.opcode = completion_opcode(request.opcode);
  completion.byte_len = request.length;
  completion.qp_num = qp_num;
}

}  // namespace verbena::core::soft
