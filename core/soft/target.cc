// SPDX-License-Identifier: Apache-2.0
// What a peer asks us to do because it can't reach our memory: private memory where process_vm_readv/writev
// is refused, and atomics on private memory always. Requests come through the ring, in order, and are carried
// out by whoever polls, or by the agent when the peer nudges it.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "core/copy_bytes.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/pieces.h"
#include "core/soft/place.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

/// Bytes of one request or answer: either way's ring has room for it, so both sides mean the same.
std::uint32_t chunk_of(const Link& link) noexcept {
  return fragment_size(std::min(link.in_slots, link.out_slots)) -
         static_cast<std::uint32_t>(sizeof(TargetRequest));
}

/// The send side's lock, for the receive side: nothing to do where both are one, else only if it's free now,
/// as a poller may hold the two in the other order.
class SendSide {
 public:
  explicit SendSide(QueuePair& qp, bool already_held) noexcept
      : lock_(already_held || qp.send_cq == qp.recv_cq ? nullptr : &qp.send_completions().lock),
        held_(!lock_ || lock_->try_lock()) {}
  ~SendSide() {
    if (lock_ && held_) lock_->unlock();
  }
  SendSide(const SendSide&) = delete;
  SendSide& operator=(const SendSide&) = delete;
  explicit operator bool() const noexcept { return held_; }

 private:
  BiasedLock* lock_;
  bool held_;
};

}  // namespace

// Called again and again for the request at the queue's front until it is done; writes stream through the
// ring, reads ask for one chunk after the other.
QueuePair::Step QueuePair::ask_target(SendRequest& request, std::uint32_t position) noexcept {
  const bool is_write = request.opcode == IBV_WR_RDMA_WRITE || request.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
  const bool is_read = request.opcode == IBV_WR_RDMA_READ;
  if (request.asked && !is_write) return Step::blocked;  // take_response clears it
  if (!is_write && request.moved == request.length) return Step::done;
  do {
    const std::uint32_t length = std::min(request.length - request.moved, chunk_of(link));
    const auto payload = static_cast<std::uint32_t>(sizeof(TargetRequest) + (is_write ? length : 0));
    if (!link.has_room(slots_for(payload))) look_at_peer();
    if (!link.has_room(slots_for(payload))) {
      request.asked = is_write;  // carry on here, not by another way
      return Step::blocked;
    }
    const TargetRequest ask{request.remote_address + request.moved,
                            request.rkey,
                            length,
                            {request.opcode == IBV_WR_ATOMIC_CMP_AND_SWP ? request.swap : request.compare_add,
                             request.compare_add},
                            request.opcode == IBV_WR_ATOMIC_CMP_AND_SWP,
                            0};
    std::byte* to = link.next_slot().payload;
    std::memcpy(to, &ask, sizeof ask);
    if (is_write) gather(request, position, request.moved, to + sizeof ask, length);
    const SlotKind kind = is_write  ? SlotKind::write_payload
                          : is_read ? SlotKind::read_request
                                    : SlotKind::atomic_request;
    link.publish(kind, 0, length, payload, 0);
    link.call_peer(false);
    if (!is_write) {
      request.asked = true;
      return Step::blocked;
    }
    request.moved += length;
  } while (request.moved != request.length);
  has_target_write_ = true;
  target_write_end_ = link.out_tail;
  if (request.opcode == IBV_WR_RDMA_WRITE_WITH_IMM) return send_notice(request);
  request.stage = SendRequest::Stage::sent;
  request.end = link.out_tail;
  return Step::done;
}

// Whoever waits for an answer polls its send completions only; the answer comes in on the other side.
void QueuePair::take_answers() noexcept {
  if (send_cq == recv_cq || holds_both || !receive_completions().lock.try_lock()) return;
  holds_both = true;
  receive();
  holds_both = false;
  receive_completions().lock.unlock();
}

std::byte* QueuePair::own_memory(const TargetRequest& request, unsigned access) noexcept {
  const KeyTable& keys = owner_context.keys();
  own_hazard.store(request.key, std::memory_order_relaxed);
  light_fence(link.fence);  // our hazard, then the key and our state: see QueuePair::await_peer
  const std::uint32_t bound_to = keys.entry(request.key).queue_pair;
  if (current_state() == IBV_QPS_ERR) {  // failed meanwhile by the other side
    own_hazard.store(0, std::memory_order_release);
    return nullptr;
  }
  if (!(attributes.qp_access_flags & access) || (bound_to != 0 && bound_to != qp_num) ||
      !keys.covers(request.key, domain.number, request.address, request.length, access)) {
    own_hazard.store(0, std::memory_order_release);
    if (is_reliable()) fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_ACCESS_ERR);
    return nullptr;
  }
  return reinterpret_cast<std::byte*>(request.address + keys.entry(request.key).displacement);
}

bool QueuePair::serve_write(const Slot& slot, std::uint32_t length) noexcept {
  if (!link.out) return stay_unfinished();  // the peer has found us first
  TargetRequest request;
  std::memcpy(&request, slot.payload, sizeof request);
  if (request.length != length || length > chunk_of(link)) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  std::byte* to = own_memory(request, IBV_ACCESS_REMOTE_WRITE);
  if (!to && (is_reliable() || current_state() == IBV_QPS_ERR)) return false;
  if (to) {
    place(to, slot.payload + sizeof request, length);
    own_hazard.store(0, std::memory_order_release);
  }
  link.consume(slots_for(static_cast<std::uint32_t>(sizeof request) + length));
  return true;
}

bool QueuePair::respond(std::span<const std::byte> bytes) noexcept {
  const auto length = static_cast<std::uint32_t>(bytes.size());
  if (!link.out || !link.has_room(slots_for(length))) {
    look_at_peer();
    if (!link.out || !link.has_room(slots_for(length))) return false;
  }
  copy_bytes(link.next_slot().payload, bytes.data(), length);
  link.publish(SlotKind::response, 0, length, length, 0);
  link.call_peer(false);
  return true;
}

bool QueuePair::serve_read(const Slot& slot) noexcept {
  const SendSide side(*this, holds_both);
  TargetRequest request;
  std::memcpy(&request, slot.payload, sizeof request);
  if (!side || !link.out) return stay_unfinished();
  if (request.length > chunk_of(link)) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  const std::byte* from = own_memory(request, IBV_ACCESS_REMOTE_READ);
  if (!from) return false;
  const bool answered = respond({from, request.length});
  own_hazard.store(0, std::memory_order_release);
  if (!answered) return stay_unfinished();
  link.consume(slots_for(sizeof request));
  return true;
}

bool QueuePair::serve_atomic(const Slot& slot) noexcept {
  const SendSide side(*this, holds_both);
  TargetRequest request;
  std::memcpy(&request, slot.payload, sizeof request);
  if (side && link.out && !link.has_room(1)) look_at_peer();
  if (!side || !link.out || !link.has_room(1)) return stay_unfinished();
  if (request.length != 8 || request.address % 8 != 0) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  std::byte* at = own_memory(request, IBV_ACCESS_REMOTE_ATOMIC);
  if (!at) return false;
  const std::uint64_t old = request.compare ? apply_atomic(at, true, request.operand[1], request.operand[0])
                                            : apply_atomic(at, false, request.operand[0], 0);
  own_hazard.store(0, std::memory_order_release);
  respond(std::as_bytes(std::span(&old, 1)));
  link.consume(slots_for(sizeof request));
  return true;
}

bool QueuePair::take_response(const Slot& slot, std::uint32_t length) noexcept {
  const SendSide side(*this, holds_both);
  if (!side) return stay_unfinished();
  if (!sends.has_waiting() || !sends.at(sends.next).asked || length > chunk_of(link) ||
      length > sends.at(sends.next).length - sends.at(sends.next).moved) {
    fail_receive(IBV_WC_SUCCESS, IBV_WC_BAD_RESP_ERR);  // nobody asked
    return false;
  }
  SendRequest& request = sends.at(sends.next);
  if (!local_pieces_valid({sends.pieces(sends.next), request.pieces}, IBV_ACCESS_LOCAL_WRITE)) {
    request.asked = false;  // the next look at the request fails it
    link.consume(slots_for(length));
    return true;
  }
  const std::byte* from = slot.payload;
  for_each_part({sends.pieces(sends.next), request.pieces}, request.moved, length,
                [&](const ibv_sge&, std::byte* to, std::uint32_t part) {
                  copy_bytes(to, from, part);
                  from += part;
                  return true;
                });
  request.moved += length;
  request.asked = false;
  link.consume(slots_for(length));
  return true;
}

}  // namespace verbena::core::soft
