// SPDX-License-Identifier: Apache-2.0
/// A fixed number of equal, registered buffers: one SharedMemory, one memory region, a free list.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/handle.h"
#include "core/shared_memory.h"

namespace verbena::core {

/// Thread safety: none; a pool belongs to one loop. No allocation after construction; an empty pool says so.
class BufferPool {
 public:
  /// `count` buffers of `size` bytes (rounded up to a cache line), registered in `pd` with `access`.
  BufferPool(Device& device, ibv_pd* pd, std::size_t count, std::size_t size, int access);

  /// A buffer's address, or nullptr when all are taken.
  std::byte* take() noexcept {
    if (free_.empty()) return nullptr;
    std::byte* buffer = free_.back();
    free_.pop_back();
    return buffer;
  }
  /// Gives back what take() returned, once.
  void give(std::byte* buffer) noexcept {
    assert(buffer >= memory_.data() && buffer < memory_.data() + count_ * size_ && "not of this pool");
    assert(static_cast<std::size_t>(buffer - memory_.data()) % size_ == 0 && "not the start of a buffer");
    assert(free_.size() < count_ && "given back twice");
    free_.push_back(buffer);
  }

  /// 0 to capacity() - 1.
  std::size_t index_of(const std::byte* buffer) const noexcept {
    return static_cast<std::size_t>(buffer - memory_.data()) / size_;
  }

  std::uint32_t lkey() const noexcept { return region_->lkey; }
  std::uint32_t rkey() const noexcept { return region_->rkey; }
  std::size_t buffer_size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return count_; }
  std::size_t available() const noexcept { return free_.size(); }
  /// The bytes pinned for it.
  std::size_t pinned_bytes() const noexcept { return memory_.size(); }

 private:
  std::size_t count_;
  std::size_t size_;
  SharedMemory memory_;
  Handle<ibv_mr> region_;
  std::vector<std::byte*> free_;
};

}  // namespace verbena::core
