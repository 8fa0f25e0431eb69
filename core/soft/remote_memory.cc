// SPDX-License-Identifier: Apache-2.0
// Touching a peer's memory: who may (the key), how (mapped, by the kernel, or by the peer itself).
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/pieces.h"
#include "core/soft/place.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

constexpr std::uint32_t longest_kernel_copy = 1u << 20;

}  // namespace

// The link is up, or was. The caller withdraws the hazard, whatever the answer.
QueuePair::Reach QueuePair::reach(Role role, std::uint32_t key, std::uint64_t address, std::uint64_t length,
                                  unsigned access, std::byte*& mapped) noexcept {
  if (role != Role::borrower) link.announce(role, key);  // which has, with more than the key
  if (link.out->state.load(std::memory_order_acquire) != LinkState::ready) return Reach::later;
  PeerProcess& peer = *link.peer;
  const KeyEntry& entry = peer.table->keys[key_index(key)];
  const std::uint64_t word = entry.word.load(std::memory_order_acquire);
  // Each field once: the entry is the peer's word, and need not stay what it was.
  const std::uint64_t begin = __atomic_load_n(&entry.address, __ATOMIC_RELAXED);
  const std::uint64_t size = __atomic_load_n(&entry.length, __ATOMIC_RELAXED);
  const std::uint32_t only = __atomic_load_n(&entry.queue_pair, __ATOMIC_RELAXED);
  const std::uint64_t displacement = __atomic_load_n(&entry.displacement, __ATOMIC_RELAXED);
  const std::uint64_t offset = address - begin;
  if (KeyEntry::key_of(word) != key || key == 0 || KeyEntry::domain_of(word) != link.out->domain ||
      (KeyEntry::access_of(word) & access) != access || offset > size || length > size - offset ||
      (only != 0 && only != link.peer_number)) {
    return Reach::refused;
  }
  const std::uint32_t epoch = peer.memory_epoch.load(std::memory_order_acquire);
  const std::uint32_t memory = entry.memory.load(std::memory_order_relaxed);
  std::byte* base = nullptr;  // where the entry's range begins here
  if (peer.same_process) {
    base = reinterpret_cast<std::byte*>(begin + displacement);
  } else {
    mapped = reinterpret_cast<std::byte*>(address + displacement);
    // Of a process that is gone only what is mapped here is left: its number may be another's by now.
    const auto otherwise = peer.gone.load(std::memory_order_acquire)        ? Reach::later
                           : peer.reachable.load(std::memory_order_relaxed) ? Reach::kernel
                                                                            : Reach::target;
    if (memory == 0) return otherwise;
    const PeerMemory there = peer.memory(memory);
    if (there.pending)  // a copy needn't wait for the mapping
      return otherwise == Reach::kernel && role != Role::borrower ? Reach::kernel : Reach::later;
    if (!there.base) return otherwise;
    // The offset is the peer's word: believe it only inside the mapping.
    const std::uint64_t from = __atomic_load_n(&entry.memory_offset, __ATOMIC_RELAXED);
    if (from > there.size || size > there.size - from) return Reach::refused;
    base = there.base + from;
  }
  mapped = base + offset;
  if (access == IBV_ACCESS_REMOTE_WRITE) known_write_ = {word, &entry, begin, size, base, memory, epoch};
  if (role == Role::borrower) known_loan_ = {word, &entry, begin, size, base, memory, epoch};
  return Reach::mapped;
}

bool QueuePair::still_granted(std::uint32_t key) const noexcept {
  std::atomic_thread_fence(std::memory_order_acquire);  // the bytes, then the key
  return link.out->state.load(std::memory_order_acquire) == LinkState::ready &&
         KeyEntry::key_of(link.peer->table->keys[key_index(key)].word.load(std::memory_order_relaxed)) == key;
}

// A write's first byte goes to the peer's guard. No call is long, so that the peer knows when it must have
// ended.
int QueuePair::copy_by_kernel(std::span<const ibv_sge> pieces, std::uint32_t offset, std::uint64_t remote,
                              std::uint32_t length, bool write) noexcept {
  std::byte dummy{};
  const std::uint32_t guarded = write ? 1 : 0;
  while (length > 0) {
    std::array<iovec, max_gather + 1> local{{{&dummy, 1}}};
    std::size_t count = 1;
    const std::uint32_t wanted = for_each_part(pieces, offset, std::min(length, longest_kernel_copy),
                                               [&](const ibv_sge&, std::byte* at, std::uint32_t part) {
                                                 if (count == local.size()) return false;
                                                 local[count++] = {at, part};
                                                 return true;
                                               });
    const iovec there[2] = {{reinterpret_cast<void*>(link.peer_guard), 1},
                            {reinterpret_cast<void*>(remote), wanted}};
    const pid_t pid = link.peer->pid;
    const ssize_t moved = write ? ::process_vm_writev(pid, local.data(), count, there, 2, 0)
                                : ::process_vm_readv(pid, local.data() + 1, count - 1, there + 1, 1, 0);
    if (moved < 0) return errno;
    const auto bytes = static_cast<std::uint32_t>(moved) - guarded;
    if (bytes == 0) return EFAULT;
    offset += bytes;
    remote += bytes;
    length -= bytes;
  }
  return 0;
}

// The peer's device refuses. An unreliable sender never hears of it.
QueuePair::Step QueuePair::refuse_access(ibv_wc_status status) noexcept {
  if (!is_reliable()) return Step::done;
  report_access_fault();
  return fail_with(status);
}

QueuePair::Step QueuePair::read_or_write(SendRequest& request, std::uint32_t position) noexcept {
  const bool is_read = request.opcode == IBV_WR_RDMA_READ;
  const bool has_notice = request.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
  if (request.placed) return send_notice(request);
  request.stage = SendRequest::Stage::answered;
  if (request.length == 0) return has_notice ? send_notice(request) : Step::done;

  const std::span<const ibv_sge> pieces(sends.pieces(position), request.pieces);
  if (!request.is_inline && !local_pieces_valid(pieces, is_read ? IBV_ACCESS_LOCAL_WRITE : 0)) {
    return fail_with(IBV_WC_LOC_PROT_ERR);
  }
  if (request.asked) return ask_target(request, position);
  if (!messages_are_expected()) return Step::blocked;
  const unsigned access = is_read ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
  if ((link.out->access.load(std::memory_order_relaxed) & access) == 0) {
    return refuse_access(IBV_WC_REM_INV_REQ_ERR);
  }
  std::byte* mapped = nullptr;
  const Reach way =
      reach(Role::requester, request.rkey, request.remote_address, request.length, access, mapped);
  int error = 0;
  if (faults_ && (way == Reach::mapped || way == Reach::kernel)) [[unlikely]]
    come_late(Role::requester);
  if (way == Reach::mapped) {
    for (const ibv_sge& piece : pieces) {
      auto* local = reinterpret_cast<std::byte*>(piece.addr);
      is_read ? copy_bytes(local, mapped, piece.length) : place(mapped, local, piece.length);
      mapped += piece.length;
    }
  } else if (way == Reach::kernel) {
    error = copy_by_kernel(pieces, 0, reinterpret_cast<std::uint64_t>(mapped), request.length, !is_read);
  }
  const bool granted = still_granted(request.rkey);
  link.withdraw(Role::requester);
  switch (way) {
    case Reach::later:
      return Step::blocked;
    case Reach::target:
      return ask_target(request, position);
    case Reach::refused:
      return refuse_access(IBV_WC_REM_ACCESS_ERR);
    default:
      break;
  }
  if (error == EPERM || error == ENOSYS) {  // forbidden since we tried: the peer does it for us from now on
    link.peer->reachable.store(false, std::memory_order_relaxed);
    return ask_target(request, position);
  }
  if (error == ESRCH) return Step::blocked;  // it is dying: its socket will say so
  if (!granted) {  // revoked in the middle of the copy: what we read may be anything, what we wrote may be
                   // nowhere
    if (!link.is_up()) return Step::blocked;
    return refuse_access(IBV_WC_REM_ACCESS_ERR);
  }
  if (error != 0) return is_reliable() ? fail_with(IBV_WC_REM_OP_ERR) : Step::done;
  return has_notice ? send_notice(request) : Step::done;
}

// Behind messages that may find no receive, a one-sided operation waits: if they fail, it must never happen.
bool QueuePair::messages_are_expected() noexcept {
  if (link.out_consumed == link.out_tail || link.out->shares_receives) return true;
  look_at_peer();
  return link.out_consumed == link.out_tail ||
         static_cast<std::int32_t>(link.out->receives.load(std::memory_order_relaxed) - messages_sent_) >= 0;
}

QueuePair::Step QueuePair::carry_out_atomic(SendRequest& request, std::uint32_t position) noexcept {
  request.stage = SendRequest::Stage::answered;
  const std::span<const ibv_sge> pieces(sends.pieces(position), request.pieces);
  if (!local_pieces_valid(pieces, IBV_ACCESS_LOCAL_WRITE)) return fail_with(IBV_WC_LOC_PROT_ERR);
  if (request.asked) return ask_target(request, position);
  if (!messages_are_expected()) return Step::blocked;
  const bool permitted = link.out->access.load(std::memory_order_relaxed) & IBV_ACCESS_REMOTE_ATOMIC;
  if (!permitted || request.remote_address % sizeof(std::uint64_t) != 0) {
    report_access_fault();
    return fail_with(IBV_WC_REM_INV_REQ_ERR);
  }
  std::byte* mapped = nullptr;
  const Reach way =
      reach(Role::requester, request.rkey, request.remote_address, 8, IBV_ACCESS_REMOTE_ATOMIC, mapped);
  std::uint64_t old = 0;
  if (way == Reach::mapped) {
    old =
        apply_atomic(mapped, request.opcode == IBV_WR_ATOMIC_CMP_AND_SWP, request.compare_add, request.swap);
  }
  const bool granted = still_granted(request.rkey);
  link.withdraw(Role::requester);
  switch (way) {
    case Reach::mapped:
      if (granted) break;
      if (!link.is_up()) return Step::blocked;
      report_access_fault();
      return fail_with(IBV_WC_REM_ACCESS_ERR);
    case Reach::later:
      return Step::blocked;
    case Reach::refused:
      report_access_fault();
      return fail_with(IBV_WC_REM_ACCESS_ERR);
    default:
      return ask_target(request, position);  // the kernel has no atomic access to another process
  }
  for (std::uint32_t done = 0; const ibv_sge& piece : pieces) {
    std::memcpy(reinterpret_cast<void*>(piece.addr), reinterpret_cast<std::byte*>(&old) + done, piece.length);
    done += piece.length;
  }
  return Step::done;
}

std::uint64_t apply_atomic(std::byte* at, bool compare, std::uint64_t compare_add,
                           std::uint64_t swap) noexcept {
  std::atomic_ref<std::uint64_t> cell(*reinterpret_cast<std::uint64_t*>(at));
  // seq_cst: atomics are what peers build locks from.
  if (!compare) return cell.fetch_add(compare_add, std::memory_order_seq_cst);
  std::uint64_t old = compare_add;
  cell.compare_exchange_strong(old, swap, std::memory_order_seq_cst);
  return old;
}

// A type-2 window is bound and invalidated by the queue pair that it belongs to, so that its own link's
// hazards are all that an invalidation has to wait for. One of type 1 is open to all of its domain's, and
// taken back by SoftDevice::bind_mw; bound to nothing it is closed.
QueuePair::Step QueuePair::bind_window(SendRequest& request) noexcept {
  request.stage = SendRequest::Stage::answered;
  auto& window = *static_cast<MemoryWindow*>(request.window);
  auto* region = static_cast<MemoryRegion*>(request.bind.mr);
  const bool is_type_1 = window.type == IBV_MW_TYPE_1;
  if (is_type_1 && request.bind.length == 0 && !window.parent) return Step::done;
  KeyTable& keys = owner_context.keys();
  const auto bound = region ? region->grant : KeyGrant{};
  const std::uint64_t offset = request.bind.addr - bound.address;
  if (!region || window.parent || domain_number(window.pd) != domain.number ||
      bound.domain != domain.number || !(bound.access & IBV_ACCESS_MW_BIND) || offset > bound.length ||
      request.bind.length > bound.length - offset ||
      ((request.bind.mw_access_flags & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) &&
       !(bound.access & IBV_ACCESS_LOCAL_WRITE))) {
    return fail_with(IBV_WC_MW_BIND_ERR);
  }
  ++region->windows;
  window.parent = region;
  window.queue_pair = is_type_1 ? 0 : qp_num;
  window.rkey = request.rkey;
  keys.publish(request.rkey,
               {request.bind.addr, request.bind.length, request.bind.mw_access_flags, domain.number,
                bound.memory, bound.memory_offset + offset, window.queue_pair, bound.displacement});
  return Step::done;
}

QueuePair::Step QueuePair::invalidate_local(SendRequest& request) noexcept {
  request.stage = SendRequest::Stage::answered;
  return invalidate_window(request.rkey) ? Step::done : fail_with(IBV_WC_LOC_QP_OP_ERR);
}

bool QueuePair::invalidate_window(std::uint32_t key) noexcept {
  KeyTable& keys = owner_context.keys();
  MemoryWindow* window = keys.window(key);
  if (!window || !window->parent || window->queue_pair != qp_num || window->rkey != key) return false;
  keys.withdraw(key);
  heavy_fence();  // the withdrawn key, then the hazard
  // A peer that is stopped in the middle of a copy: then the window isn't revoked yet, and who asked is told
  // so. It is when the queue pair, which fails by this, has been flushed: see Context::seal.
  if (!await_peer(key)) return false;
  MemoryRegion* region = window->parent.exchange(nullptr);
  --region->windows;
  return true;
}

}  // namespace verbena::core::soft
