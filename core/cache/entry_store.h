// SPDX-License-Identifier: Apache-2.0
/// Where entries live: once an entry, always an entry, so that a hint that is out of date points at one.
#pragma once

#include <cstddef>
#include <forward_list>

#include "core/cache/entry.h"
#include "core/cache/own_memory.h"

namespace verbena::core {

/// Thread safety: none; the cache's lock guards take and give. Growing is in two steps, because memory may
/// not be mapped under that lock: make a Chunk without it, then adopt that with it.
class EntryStore {
 public:
  /// Entries to come.
  using Chunk = std::forward_list<OwnMemory>;
  static constexpr std::size_t chunk_entries = OwnMemory::alignment / sizeof(Entry);

  /// Maps memory for one more chunk. Throws std::bad_alloc. Any thread, without the lock.
  static Chunk make_chunk() {
    Chunk chunk;
    chunk.emplace_front(chunk_entries * sizeof(Entry));
    return chunk;
  }
  void adopt(Chunk chunk) noexcept {
    fresh_ = static_cast<Entry*>(chunk.front().data());
    fresh_end_ = fresh_ + chunk_entries;
    chunks_.splice_after(chunks_.before_begin(), chunk);
  }

  /// nullptr where it has to grow first.
  Entry* take() noexcept {
    if (Entry* entry = free_) {
      free_ = entry->next;
      entry->next = nullptr;
      return entry;
    }
    if (fresh_ == fresh_end_) return nullptr;
    return ::new (fresh_++) Entry;  // touched when it is first needed, so that a small cache stays small
  }
  void give(Entry& entry) noexcept {
    entry.next = free_;
    free_ = &entry;
  }

 private:
  Chunk chunks_;
  Entry* fresh_ = nullptr;
  Entry* fresh_end_ = nullptr;
  Entry* free_ = nullptr;
};

}  // namespace verbena::core
