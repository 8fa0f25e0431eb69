// SPDX-License-Identifier: Apache-2.0
/// A registered piece of memory that large messages are read into, handed out in ranges, first fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "core/handle.h"
#include "core/shared_memory.h"

namespace verbena::transport {

/// Thread safety: none; it belongs to one loop. Invariant: free ranges never touch each other.
class LargeArea {
 public:
  LargeArea(core::Device& device, ibv_pd* pd, std::size_t bytes, int access);

  /// A range, or nullptr if none is free that is long enough.
  std::byte* take(std::size_t length);
  void give(std::byte* range, std::size_t length);

  std::uint32_t lkey() const noexcept { return region_->lkey; }
  std::uint32_t rkey() const noexcept { return region_->rkey; }
  std::size_t capacity() const noexcept { return memory_.size(); }
  std::size_t pinned_bytes() const noexcept { return memory_.size(); }

 private:
  core::SharedMemory memory_;
  core::Handle<ibv_mr> region_;
  std::map<std::size_t, std::size_t> free_;  // offset → length
};

}  // namespace verbena::transport
