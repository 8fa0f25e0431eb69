// SPDX-License-Identifier: Apache-2.0
/// The two rings between two connected queue pairs, seen from one of them.
#pragma once

#include <atomic>
#include <bitset>
#include <cstdint>

#include "core/soft/fence.h"
#include "core/soft/layout.h"
#include "core/soft/peer_process.h"
#include "core/soft/race_detector.h"
#include "core/soft/shared_file.h"

namespace verbena::core::soft {

/// Which of a queue pair's activities touches the peer's memory: each has a hazard of its own.
enum class Role : std::uint8_t { requester = 0, responder = 1, borrower = 2 };

/// Guarded as the queue pair is: what sends by the send completion queue's lock, what receives by the receive
/// completion queue's lock, attaching by both.
struct Link {
  PeerProcess* peer = nullptr;
  std::uint32_t peer_number = 0;
  /// The peer has held a hazard for longer than anyone waits: the queue pair fails, and doesn't wait again.
  std::atomic<bool> gave_up{false};
  bool fence = true;  ///< light fences must be real ones; so they are until the peer is known

  // Inwards: our segment, which the peer writes into.
  Mapping in_mapping;
  Inbound* in = nullptr;
  Slot* in_ring = nullptr;
  std::uint32_t in_slots = 0;  ///< a power of two, as its file was made
  /// Slots consumed; ours, never read back from shared memory. The sending side reads it, to acknowledge.
  std::atomic<std::uint32_t> in_head{0};
  /// A page of ours, one a link. Whenever the peer writes to our memory by process_vm_writev, the first byte
  /// goes here: the kernel takes the pieces in order and stops at the first that faults. So without this page
  /// the peer's call fails before it has touched anything, even one that it has made up its mind to long ago.
  /// Reads do without: a late one changes nothing of ours, and its bytes are thrown away (still_granted()).
  Mapping guard;
  bool guard_closed = false;

  // Outwards: the peer's segment; null until its offer has come.
  Mapping out_mapping;
  Inbound* out = nullptr;
  Slot* out_ring = nullptr;
  std::uint32_t out_slots = 0;  ///< a power of two, checked, as it was when it was mapped
  std::uint32_t out_tail = 0;
  std::uint32_t out_consumed = 0;            ///< slots that the peer has consumed, checked
  std::atomic<std::uint32_t> heard{0};       ///< the same as last heard by the receiving side, unchecked
  std::bitset<most_ring_slots> was_payload;  ///< slots whose first word may be left-over payload
  std::uint32_t clean_from = 0;  ///< from this position on there are none: short entries look no further
  Bell* bell = nullptr;
  const std::atomic<Armed>* armed = nullptr;
  EventPointer receive_event;    ///< wakes the peer's receive completion queue
  EventPointer send_event;       ///< wakes the peer's send completion queue
  std::uint64_t peer_guard = 0;  ///< the peer's guard, in its address space: its word

  bool is_up() const noexcept {
    return out && out->state.load(std::memory_order_acquire) == LinkState::ready;
  }
  bool is_dead() const noexcept {
    return (peer && peer->gone.load(std::memory_order_acquire)) ||
           (out && out->state.load(std::memory_order_acquire) == LinkState::dead);
  }

  // ---- Producing ----

  /// One slot always stays free: the one whose word an entry zeroes ahead.
  bool has_room(std::uint32_t slots) const noexcept { return out_tail - out_consumed + slots < out_slots; }
  /// Believes a count only if it lies between what was consumed before and what was produced.
  void hear(std::uint32_t consumed) noexcept {
    if (consumed - out_consumed <= out_tail - out_consumed) out_consumed = consumed;
  }
  /// Hears what the entry acknowledges that is the next to be taken in. For a program that waits for its
  /// send's end before it looks at its receives: nobody else reads that line for it.
  /// `number`: whose link this is.
  void hear_ahead(std::uint32_t number) noexcept {
    if (!in) return;
    const std::uint32_t head = in_head.load(std::memory_order_relaxed);
    Slot& slot = in_ring[head & (in_slots - 1)];
    // Acquire: pairs with publish.
    if (static_cast<std::uint16_t>(slot.word.load(std::memory_order_acquire) >> 48) != Slot::lap(head))
      return;
    const std::uint32_t consumed = __atomic_load_n(&slot.acknowledged, __ATOMIC_ACQUIRE);
    // The receiving side may have freed the slot meanwhile, and the peer begun to write it anew: then this
    // was another entry's, whose word we haven't seen. Relaxed: behind the acquire, and only freeing changes
    // it.
    if (in_head.load(std::memory_order_relaxed) != head) return;
    order_acquired_by(number);
    hear(consumed);
  }
  Slot& next_slot() noexcept { return out_ring[out_tail & (out_slots - 1)]; }
  /// Publishes the entry at the tail, whose payload has been written.
  void publish(SlotKind kind, std::uint8_t flags, std::uint32_t length, std::uint32_t payload,
               std::uint32_t immediate) noexcept {
    Slot& slot = next_slot();
    const std::uint32_t slots = slots_for(payload);
    if (slots > 1 || static_cast<std::int32_t>(clean_from - out_tail) > 0) [[unlikely]]
      clear_following(slots);
    slot.acknowledged =
        in_head.load(std::memory_order_acquire);  // pairs with consume: what is freed has been read
    slot.immediate = immediate;
    order_released_to(peer_number);
    // Release: the payload and the zeroed word are there when this is seen.
    slot.word.store(Slot::make_word(out_tail, kind, flags, length), std::memory_order_release);
    out_tail += slots;
  }
  /// Tells the peer, unless it looks by itself. Call after publish().
  void call_peer(bool solicited) noexcept {
    light_fence(fence);  // our entry, then its attention: see CompletionQueue::arm
    if (out->attention.load(std::memory_order_relaxed) == Attention::direct) [[likely]]
      return;
    ring_bell(solicited);
  }
  void ring_bell(bool solicited) noexcept;

  // ---- Consuming ----

  Slot& first_slot() noexcept { return in_ring[in_head.load(std::memory_order_relaxed) & (in_slots - 1)]; }
  bool has_entry(std::uint64_t word) const noexcept {
    return static_cast<std::uint16_t>(word >> 48) == Slot::lap(in_head.load(std::memory_order_relaxed));
  }
  void consume(std::uint32_t slots) noexcept {
    const std::uint32_t head = in_head.load(std::memory_order_relaxed) + slots;
    // Release, both: we are done with the entry's bytes, and with the sender's memory that it described.
    in_head.store(head, std::memory_order_release);
    order_released_to(peer_number);
    in->progress.store(Progress{head, 0}.pack(), std::memory_order_release);
    light_fence(fence);  // our progress, then its wish: see CompletionQueue::arm
    if (in->wants_event.load(std::memory_order_relaxed)) [[unlikely]]
      answer_wish();
  }
  void answer_wish() noexcept;

  // ---- Touching the peer's memory ----

  void announce(Role role, std::uint64_t what) noexcept {
    hazard(role).store(what, std::memory_order_relaxed);
    light_fence(fence);  // our hazard, then the key: see Context::await_accesses
  }
  void withdraw(Role role) noexcept {
    order_released_to(peer_number);
    hazard(role).store(0, std::memory_order_release);  // after the last byte has been copied
  }

 private:
  std::atomic<std::uint64_t>& hazard(Role role) noexcept {
    return role == Role::borrower ? out->borrowed : out->hazard[static_cast<int>(role)];
  }
  /// The word behind the entry must not look like an entry's, and the entry's own payload soon may.
  void clear_following(std::uint32_t slots) noexcept {
    const std::uint32_t mask = out_slots - 1;
    for (std::uint32_t i = 1; i < slots; ++i) was_payload.set((out_tail + i) & mask);
    if (slots > 1) clean_from = out_tail + slots + out_slots;  // overwritten, or cleared, within one lap
    was_payload.reset(out_tail & mask);
    const std::uint32_t following = (out_tail + slots) & mask;
    if (!was_payload.test(following)) return;
    // Not 0, which is a lap like any other; publish()'s release orders it.
    out_ring[following].word.store(Slot::not_yet(out_tail + slots), std::memory_order_relaxed);
    was_payload.reset(following);
  }
};

}  // namespace verbena::core::soft
