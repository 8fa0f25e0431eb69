// SPDX-License-Identifier: Apache-2.0
#include "core/soft/key_table.h"

namespace verbena::core::soft {

std::uint32_t KeyTable::reserve() {
  const std::lock_guard guard(mutex_);
  if (!free_.empty()) {
    const std::uint32_t key = free_.back();
    free_.pop_back();
    return key;
  }
  if (unused_ == max_keys) return 0;
  return unused_++ << 8 | 1;
}

void KeyTable::publish(std::uint32_t key, const KeyGrant& grant) {
  KeyEntry& entry = table_.keys[key_index(key)];
  entry.address = grant.address;
  entry.length = grant.length;
  entry.memory.store(grant.memory, std::memory_order_relaxed);
  entry.memory_offset = grant.memory_offset;
  entry.queue_pair = grant.queue_pair;
  entry.displacement = grant.displacement;
  entry.word.store(KeyEntry::make_word(key, grant.access, grant.domain), std::memory_order_release);
}

void KeyTable::withdraw(std::uint32_t key) {
  table_.keys[key_index(key)].word.store(0, std::memory_order_release);
}

void KeyTable::make_private(std::uint32_t key) {
  table_.keys[key_index(key)].memory.store(0, std::memory_order_relaxed);  // the caller fences
}

void KeyTable::release(std::uint32_t key) {
  const std::lock_guard guard(mutex_);
  windows_.erase(key_index(key));
  free_.push_back(next_generation(key));
}

void KeyTable::rename(std::uint32_t lkey, const Renamed& renamed) {
  const std::lock_guard guard(mutex_);
  renamed_[lkey] = renamed;
  renamed_count_.store(renamed_.size(),
                       std::memory_order_relaxed);  // whoever uses the lkey was told it later
}

void KeyTable::forget_renamed(std::uint32_t lkey) noexcept {
  const std::lock_guard guard(mutex_);
  renamed_.erase(lkey);
  renamed_count_.store(renamed_.size(), std::memory_order_relaxed);
}

void KeyTable::translate(std::span<ibv_sge> pieces, bool into) noexcept {
  const std::lock_guard guard(mutex_);
  for (ibv_sge& piece : pieces) {
    const auto found = renamed_.find(piece.lkey);
    if (found == renamed_.end()) continue;
    const Renamed& region = found->second;
    if (region.sink_key != 0) {
      piece.addr = into ? region.sink : region.zeros;
      piece.lkey = into ? region.sink_key : region.key;
      continue;
    }
    const std::uint64_t offset = piece.addr - region.address;
    if (offset > region.length || piece.length > region.length - offset)
      continue;  // and is refused by its key
    piece.addr += region.displacement;
    piece.lkey = region.key;
  }
}

void KeyTable::remember_window(std::uint32_t key, MemoryWindow& window) {
  const std::lock_guard guard(mutex_);
  windows_[key_index(key)] = &window;
}

std::vector<std::uint32_t> KeyTable::windows_of(const MemoryRegion& region) {
  const std::lock_guard guard(mutex_);
  std::vector<std::uint32_t> keys;
  for (const auto& [index, window] : windows_) {
    if (window->parent == &region) keys.push_back(window->rkey);
  }
  return keys;
}

MemoryWindow* KeyTable::window(std::uint32_t key) {
  const std::lock_guard guard(mutex_);
  const auto found = windows_.find(key_index(key));
  return found == windows_.end() ? nullptr : found->second;
}

}  // namespace verbena::core::soft
