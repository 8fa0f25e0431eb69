// SPDX-License-Identifier: Apache-2.0
/// What processes share: the layouts of soft0's shared memory. Everything read from memory that a peer can
/// write is untrusted: it is copied once, then checked, then used.
///
/// A process that opens soft0 owns a *block* of 4096 queue pair numbers and shares three kinds of memory:
///  - `PublicTable`, one a process: its keys and armed completion queues. Peers map it read-only.
///  - `Bell`, one a completion queue: hints of peers that a quiet queue pair has mail. Peers map it writable;
///  a
///    wrong hint costs time, never data.
///  - `Inbound`, one a connected queue pair: the ring that the one peer writes into, behind a page of words.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/lending.h"

namespace verbena::core::soft {

inline constexpr std::uint32_t layout_magic = 0x76726273;  // "srbv" in memory
inline constexpr std::uint32_t layout_version = 6;
inline constexpr std::size_t cache_line = 64;
inline constexpr std::size_t page_size = 4096;

// A queue pair number is 24 bits: the process's block, then the queue pair's index in it.
inline constexpr std::uint32_t index_bits = 12;
inline constexpr std::uint32_t queue_pairs_per_block = 1u << index_bits;
inline constexpr std::uint32_t blocks = 1u << (24 - index_bits);
inline constexpr std::uint32_t first_block = 1;  // block 0 holds the reserved QP numbers 0 and 1
constexpr std::uint32_t block_of(std::uint32_t qp_number) {
  return qp_number >> index_bits;
}
constexpr std::uint32_t index_of(std::uint32_t qp_number) {
  return qp_number & (queue_pairs_per_block - 1);
}

inline constexpr std::uint32_t max_completion_queues = 1024;

// A key is 6 bits of generation, 18 of index into the key table, 8 of generation again: the low byte, which
// ibv_inc_rkey(3) counts up for a window, must not change the index. A revoked key isn't soon issued again.
inline constexpr std::uint32_t key_index_bits = 18;
inline constexpr std::uint32_t max_keys = 1u << key_index_bits;
constexpr std::uint32_t key_index(std::uint32_t key) {
  return key >> 8 & (max_keys - 1);
}
constexpr std::uint32_t next_generation(std::uint32_t key) {
  const std::uint32_t generation = ((key >> 26 << 8 | (key & 0xff)) + 1) & 0x3fff;
  return generation >> 8 << 26 | key_index(key) << 8 | (generation & 0xff);
}

/// One memory region or bound memory window. Owner writes; peers read, with a hazard announced.
/// Invariant: while `word` is valid the other fields don't change (but for `memory`, which may become 0), and
/// they change again only after every hazard that names the key has been withdrawn.
struct alignas(cache_line) KeyEntry {
  std::atomic<std::uint64_t>
      word;               ///< key in the low half, access and protection domain above; 0: no such key
  std::uint64_t address;  ///< where the range begins, as requests name it
  std::uint64_t length;
  std::uint64_t memory_offset;  ///< of `address` in the shared file
  std::atomic<std::uint32_t>
      memory;                ///< id of the shared file that peers may map; 0: private memory, or no longer
  std::uint32_t queue_pair;  ///< a type-2 window's only queue pair; 0: any of the protection domain
  std::uint64_t
      displacement;  ///< to be added to an address of the range for where it lies in the owner; mostly 0

  static constexpr std::uint64_t make_word(std::uint32_t key, unsigned access, std::uint16_t domain) {
    return key | std::uint64_t{access & 0xff} << 32 | std::uint64_t{domain} << 48;
  }
  static constexpr std::uint32_t key_of(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
  static constexpr unsigned access_of(std::uint64_t word) { return static_cast<unsigned>(word >> 32) & 0xff; }
  static constexpr std::uint16_t domain_of(std::uint64_t word) {
    return static_cast<std::uint16_t>(word >> 48);
  }
};
static_assert(sizeof(KeyEntry) == cache_line);

enum class Armed : std::uint32_t { no = 0, any = 1, solicited = 2 };

struct alignas(cache_line) ArmedLine {
  std::atomic<Armed> armed;
};

struct PublicTable {
  alignas(page_size) struct {
    std::uint32_t magic;
    std::uint32_t version;
    std::uint32_t needs_fence;  ///< the owner has no expedited membarrier: accessors fence for themselves
  } header;
  alignas(page_size) ArmedLine queues[max_completion_queues];
  alignas(page_size) KeyEntry keys[max_keys];
};

/// A byte a queue pair, and a summary byte for each 64 of them, so that an idle poll reads one line.
/// A sender sets the byte, then the summary; the poller clears the summary, then the bytes, then reads the
/// rings.
struct Bell {
  alignas(cache_line) std::atomic<std::uint64_t> summary[8];
  alignas(cache_line) std::atomic<std::uint64_t> groups[queue_pairs_per_block / 8];

  static std::atomic<std::uint8_t>& byte(std::atomic<std::uint64_t>* words, std::uint32_t index) {
    return reinterpret_cast<std::atomic<std::uint8_t>*>(words)[index];
  }
};
inline constexpr std::size_t bell_stride = 2 * page_size;
static_assert(sizeof(Bell) <= bell_stride);
static_assert(sizeof(std::atomic<std::uint64_t>) == 8 && std::atomic<std::uint64_t>::is_always_lock_free);

// ---- The ring ----

enum class SlotKind : std::uint8_t {
  send = 1,        ///< a message or a piece of one, payload in the slots
  send_described,  ///< a whole message, payload still in the sender's memory: a list of `Piece`
  write_notice,    ///< a write with immediate has been placed; `length` is its size
  write_payload,   ///< for the target to place: `TargetRequest`, then bytes
  read_request,    ///< for the target to answer: `TargetRequest`
  atomic_request,  ///< for the target to carry out: `TargetRequest`
  response,        ///< the target's answer to a request: the bytes
  access_fault,    ///< the sender's access was refused: the queue pair is broken
  receive_queue,   ///< XRC: from here on messages are for the shared receive queue that `immediate` names
};

namespace slot_flag {
inline constexpr std::uint8_t first = 1, last = 2, solicited = 4, immediate = 8, invalidate = 16;
}

// Slots of a ring: a power of two. Its owner chooses it by its queue pair's depth and makes a file of that
// length; sealed, a file never changes its length, so both sides' idea of it stays what it was when they
// mapped it.
inline constexpr std::uint32_t least_ring_slots = 64;  // a page
inline constexpr std::uint32_t most_ring_slots = 512;
constexpr std::uint32_t ring_slots_for(std::uint32_t depth) {
  return depth <= least_ring_slots ? least_ring_slots : most_ring_slots;
}
constexpr bool is_ring_length(std::size_t slots) {
  return slots >= least_ring_slots && slots <= most_ring_slots && (slots & (slots - 1)) == 0;
}

/// 64 bytes, written payload first and `word` last, so that a small message moves one cache line once.
/// A long entry's payload runs on into the following slots, whose first words are payload then: before an
/// entry is published, the sender clears the next slot's word where payload may have left a valid-looking
/// one.
struct alignas(cache_line) Slot {
  std::atomic<std::uint64_t> word;  ///< lap 16 | kind 8 | flags 8 | length 32
  std::uint32_t acknowledged;       ///< slots that the writer has consumed of the opposite ring
  std::uint32_t immediate;          ///< immediate data (network order) or the key to invalidate
  std::byte payload[48];

  static constexpr std::uint64_t make_word(std::uint32_t position, SlotKind kind, std::uint8_t flags,
                                           std::uint32_t length) {
    return std::uint64_t{lap(position)} << 48 | std::uint64_t{static_cast<std::uint8_t>(kind)} << 40 |
           std::uint64_t{flags} << 32 | length;
  }
  /// A word that isn't an entry's at `position`: one of the lap before.
  static constexpr std::uint64_t not_yet(std::uint32_t position) {
    return std::uint64_t{lap(position - least_ring_slots)} << 48;
  }
  /// Never 0 on the first lap, so that a zeroed ring is empty. Of the shortest ring, whatever the ring's
  /// length: a slot's laps differ all the same, and the number needs no look at the length.
  static constexpr std::uint16_t lap(std::uint32_t position) {
    return static_cast<std::uint16_t>(position / least_ring_slots + 1);
  }
};
static_assert(sizeof(Slot) == cache_line && offsetof(Slot, payload) == 16);

static_assert(least_ring_slots * sizeof(Slot) % page_size == 0);
constexpr std::size_t ring_bytes(std::uint32_t slots) {
  return slots * sizeof(Slot);
}
/// Payload bytes of one entry at most: eight entries of this size fill the ring.
constexpr std::uint32_t fragment_size(std::uint32_t slots) {
  return slots / 8 * 64 - 64;
}
constexpr std::uint32_t slots_for(std::uint32_t payload) {
  return static_cast<std::uint32_t>((offsetof(Slot, payload) + payload + sizeof(Slot) - 1) / sizeof(Slot));
}
static_assert(slots_for(48) == 1 && slots_for(49) == 2);
static_assert(slots_for(fragment_size(least_ring_slots)) <= least_ring_slots / 8);

struct Piece {
  std::uint64_t address;
  std::uint32_t length;
  std::uint32_t key;
};
inline constexpr std::uint32_t max_pieces = 16;
static_assert((max_pieces + 1) * sizeof(Piece) <= fragment_size(least_ring_slots));

struct TargetRequest {
  std::uint64_t address;
  std::uint32_t key;
  std::uint32_t length;
  std::uint64_t operand[2];  ///< atomics: add or swap value, compare value
  std::uint32_t compare;     ///< atomics: 1 for compare-and-swap
  std::uint32_t reserved;
};
inline constexpr std::uint32_t loan_generations = 0xff'ffff;  ///< a mask: they wrap
enum class LinkState : std::uint32_t { preparing = 0, ready = 1, dead = 2 };

/// How the owner hears of new entries.
enum class Attention : std::uint32_t {
  bell = 0,   ///< ring the bell, and wake the owner if its queue is armed
  direct = 1  ///< the owner's polls look at the ring itself: nothing to do
};

/// The consumer's answer to the producer, in one word: slots consumed, and a status where something is wrong.
struct Progress {
  std::uint32_t consumed;
  std::uint8_t status;  ///< ibv_wc_status that the producer's work request fails with; 0: fine

  static constexpr Progress unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint8_t>(word >> 32)};
  }
  constexpr std::uint64_t pack() const { return consumed | std::uint64_t{status} << 32; }
};

struct Inbound {
  // Written once, by the owner.
  alignas(cache_line) std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t owner;  ///< queue pair numbers
  std::uint32_t peer;
  std::uint64_t guard;  ///< in the owner's address space: see Link::guard
  // Owner to peer; changes rarely, so that the peer's copy stays in its cache.
  alignas(cache_line) std::atomic<LinkState> state;
  std::atomic<Attention> attention;
  std::atomic<std::uint32_t> access;  ///< IBV_ACCESS_REMOTE_* that the queue pair grants
  std::uint32_t domain;
  std::uint32_t completion_queue;  ///< index of the receive completion queue
  std::uint32_t shares_receives;   ///< it takes them from a shared receive queue: `receives` says nothing
  // Owner to peer: what has been consumed. The peer reads it seldom: it mostly hears by `Slot::acknowledged`,
  // because reading a line that the owner stores to delays the owner's next send.
  alignas(cache_line) std::atomic<std::uint64_t> progress;
  // Owner to peer: receives posted so far. Read only by a peer that has a one-sided operation behind a
  // message.
  alignas(cache_line) std::atomic<std::uint32_t> receives;
  // Peer to owner: the key of the owner's memory that the peer is touching now: [0] as requester, [1] as
  // responder.
  alignas(cache_line) std::atomic<std::uint64_t> hazard[2];
  // The same of a loan that the peer reads, with its place: key | (place + 1) << 32. Apart, since nothing but
  // a recall has to wait for it.
  alignas(cache_line) std::atomic<std::uint64_t> borrowed;
  // Peer to owner.
  alignas(cache_line) std::atomic<std::uint32_t> wants_event;  ///< the peer sleeps until `progress` moves
  std::atomic<std::uint32_t> not_ready_retries;                ///< the peer's rnr_retry
  alignas(cache_line) std::byte guard_cell;                    ///< what a write by the guard's address hits
  // Owner to peer: the generation of each place of loans. Stored to by recalls alone, so that the peer's copy
  // stays in its cache.
  alignas(cache_line) std::atomic<std::uint32_t> loans[Lending::places];
  /// The ring, which begins with the next page.
  Slot* ring() noexcept { return reinterpret_cast<Slot*>(reinterpret_cast<std::byte*>(this) + page_size); }
};
static_assert(sizeof(Inbound) <= page_size);
constexpr std::size_t inbound_bytes(std::uint32_t slots) {
  return page_size + ring_bytes(slots);
}

}  // namespace verbena::core::soft
