// SPDX-License-Identifier: Apache-2.0
/// This process's keys: memory regions and bound type-2 windows, in the table that peers read.
///
/// lkey and rkey of a region are the same number. Issuing and revoking are cold and take a lock; checking a
/// local key on the data path takes none.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/soft/layout.h"

namespace verbena::core::soft {

struct KeyGrant {
  std::uint64_t address;
  std::uint64_t length;
  unsigned access;  ///< ibv_access_flags
  std::uint16_t domain;
  std::uint32_t memory = 0;
  std::uint64_t memory_offset = 0;
  std::uint32_t queue_pair = 0;
  std::uint64_t displacement = 0;  ///< see KeyEntry
};

struct MemoryRegion : ibv_mr {
  KeyGrant grant{};
  std::uint32_t shared_file = 0;          ///< id that it holds a use of; 0: none
  bool replaced = false;                  ///< its pages no longer are that file's
  std::uint32_t sink_key = 0;             ///< of a null region
  std::uint32_t local_key = 0;            ///< of one with an iova: see KeyTable::Renamed
  std::atomic<std::uint32_t> windows{0};  ///< bound to it: while there are any it can't be deregistered
};

struct MemoryWindow : ibv_mw {
  std::atomic<MemoryRegion*> parent{nullptr};  ///< null: not bound
  std::uint32_t queue_pair = 0;
};

class KeyTable {
 public:
  explicit KeyTable(PublicTable& table) : table_(table) {}

  /// A free key, not yet valid; 0 when all are taken.
  std::uint32_t reserve();
  /// Makes a reserved key valid. Release order: a peer that sees the word sees the rest.
  void publish(std::uint32_t key, const KeyGrant& grant);
  /// Makes it invalid; accesses that were announced before may still run: see Context::await_accesses.
  void withdraw(std::uint32_t key);
  /// From now on peers reach its memory without a mapping; those that have begun are to be waited for.
  void make_private(std::uint32_t key);
  void release(std::uint32_t key);

  /// True if the key is valid, of this domain, covers the range and has all of `access`.
  bool covers(std::uint32_t key, std::uint16_t domain, std::uint64_t address, std::uint64_t length,
              unsigned access) const noexcept {
    const KeyEntry& entry = table_.keys[key_index(key)];
    const std::uint64_t word = entry.word.load(std::memory_order_acquire);  // pairs with publish
    return KeyEntry::key_of(word) == key && key != 0 && KeyEntry::domain_of(word) == domain &&
           (KeyEntry::access_of(word) & access) == access && address - entry.address <= entry.length &&
           length <= entry.length - (address - entry.address);
  }
  /// A region whose lkey names other addresses than the memory's own (ibv_reg_mr_iova(3)). The lkey is valid
  /// nowhere; `key` stands for the same memory under its own addresses. So only who finds a key invalid has
  /// to ask.
  struct Renamed {
    std::uint64_t address;
    std::uint64_t length;
    std::uint64_t displacement;
    std::uint32_t key;
    // Of a null region (ibv_alloc_null_mr(3)), whose every address reads as zeros, and takes what nobody
    // wants; else 0.
    std::uint64_t zeros = 0;
    std::uint64_t sink = 0;
    std::uint32_t sink_key = 0;
  };
  void rename(std::uint32_t lkey, const Renamed& renamed);
  void forget_renamed(std::uint32_t lkey) noexcept;
  /// Whether there are any. Without the lock.
  bool has_renamed() const noexcept { return renamed_count_.load(std::memory_order_relaxed) != 0; }
  /// Puts its own address and key into a piece of such a region; leaves any other as it is. `into`: they are
  /// to be written to.
  void translate(std::span<ibv_sge> pieces, bool into) noexcept;
  /// The window that a key's index belongs to, whatever its generation; nullptr if it's a region's.
  void remember_window(std::uint32_t key, MemoryWindow& window);
  MemoryWindow* window(std::uint32_t key);
  std::vector<std::uint32_t> windows_of(const MemoryRegion& region);

  const KeyEntry& entry(std::uint32_t key) const noexcept { return table_.keys[key_index(key)]; }

 private:
  PublicTable& table_;
  std::mutex mutex_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::uint32_t, MemoryWindow*> windows_;
  std::unordered_map<std::uint32_t, Renamed> renamed_;  // by lkey
  std::atomic<std::size_t> renamed_count_{0};
  std::uint32_t unused_ = 1;  // index 0 is never issued, so that key 0 is never valid
};

}  // namespace verbena::core::soft
