// SPDX-License-Identifier: Apache-2.0
/// From an address to the entry that may cover it: hints, which the entry itself confirms or not.
///
/// A hash table of buckets with four places; an old hint gives way where a bucket is full. A hint stands
/// under the page of the address that was looked up, or, where the entry covers all of it, under the
/// surrounding 2 MiB block, so that a large registration has few.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "core/cache/entry.h"
#include "core/cache/own_memory.h"

namespace verbena::core {

/// Thread safety: find from any thread; put by one at a time.
class HintTable {
 public:
  /// Room for hints of about `entries` entries. Throws std::bad_alloc.
  explicit HintTable(std::size_t entries)
      : bits_(static_cast<unsigned>(std::bit_width(std::bit_ceil(entries + 16) / 2) - 1)),
        memory_((std::size_t{1} << bits_) * sizeof(Bucket)),
        buckets_(static_cast<Bucket*>(memory_.data())) {}

  /// An entry with a count taken, or nullptr. Cost: one cache line here and one of the entry.
  Entry* hold(AddressRange range, int access) const noexcept {
    if (Entry* entry = hold_by(page_key(range.begin), range, access)) [[likely]]
      return entry;
    return hold_by(block_key(range.begin), range, access);
  }

  /// So that the next look-up of `address` finds `entry`, which covers it.
  void put(std::uintptr_t address, AddressRange covered, Entry& entry) noexcept {
    const std::uintptr_t block = address / block_size * block_size;
    const bool whole = covered.covers({block, block + block_size});
    const std::uint64_t mixed = mix(whole ? block_key(address) : page_key(address));
    const std::uint64_t hint = pack(mixed, entry);
    Bucket& bucket = bucket_of(mixed);
    std::size_t chosen = turn_++ % bucket.size();  // if all are needed
    for (std::size_t i = bucket.size();
         i-- > 0;) {  // the first place last, so that it is chosen if it can be
      const std::size_t place = first_place(mixed) ^ i;
      const std::uint64_t old = bucket[place].load(std::memory_order_relaxed);  // nobody else writes
      if (old == hint) return;
      if (old == 0 || !entry_of(old)->is_alive() || ((old ^ hint) & ~address_mask) == 0) chosen = place;
    }
    // Release: who finds the entry sees it constructed. What it says is confirmed there.
    bucket[chosen].store(hint, std::memory_order_release);
  }

 private:
  using Bucket = std::array<std::atomic<std::uint64_t>, 4>;
  static constexpr unsigned address_bits = 48;  // of a user's mapping, unless it asks for others by a hint
  static constexpr std::uint64_t address_mask = (std::uint64_t{1} << address_bits) - 1;
  static constexpr std::uintptr_t block_size = std::uintptr_t{2} << 20;
  static constexpr unsigned page_bits = 12;  // the smallest page; with larger ones some hints stand twice
  static constexpr std::uint64_t of_block = std::uint64_t{1} << 63;

  static std::uint64_t page_key(std::uintptr_t address) noexcept { return address >> page_bits; }
  static std::uint64_t block_key(std::uintptr_t address) noexcept { return address / block_size | of_block; }
  /// Multiplication by 2^64 / golden ratio spreads neighbouring pages over the upper bits.
  static std::uint64_t mix(std::uint64_t key) noexcept { return key * 0x9e37'79b9'7f4a'7c15; }
  /// The entry's address with 16 bits of the key over it.
  static std::uint64_t pack(std::uint64_t mixed, const Entry& entry) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(&entry);
    assert(address >> address_bits == 0 && "memory beyond what was asked for");
    return tag_of(mixed) | address;
  }
  /// Sixteen bits below those that choose the bucket.
  static std::uint64_t tag_of(std::uint64_t mixed) noexcept { return (mixed << 20) & ~address_mask; }
  static Entry* entry_of(std::uint64_t hint) noexcept {
    return reinterpret_cast<Entry*>(hint & address_mask);
  }
  /// Where a hint stands unless another one does: so a processor guesses right most often where to look.
  static std::size_t first_place(std::uint64_t mixed) noexcept { return mixed >> 24 & 3; }
  Bucket& bucket_of(std::uint64_t mixed) const noexcept { return buckets_[mixed >> (64 - bits_)]; }

  Entry* hold_by(std::uint64_t key, AddressRange range, int access) const noexcept {
    const std::uint64_t mixed = mix(key);
    const std::uint64_t tag = tag_of(mixed);
    const Bucket& bucket = bucket_of(mixed);
    for (std::size_t i = 0; i < bucket.size(); ++i) {
      // Acquire: as in put().
      const std::uint64_t hint = bucket[first_place(mixed) ^ i].load(std::memory_order_acquire);
      if ((hint & ~address_mask) != tag || hint == 0) continue;
      if (Entry* const entry = entry_of(hint); entry->try_hold(range, access)) return entry;
    }
    return nullptr;
  }

  static_assert(std::tuple_size_v<Bucket> == 4, "as first_place has it");

  unsigned bits_;  // of the number of buckets
  OwnMemory memory_;
  Bucket* buckets_;
  std::size_t turn_ = 0;
};

}  // namespace verbena::core
