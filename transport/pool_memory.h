// SPDX-License-Identifier: Apache-2.0
/// What a Loop's Pool is made of: shared memory, one registration, and the blocks in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/buddy_allocator.h"
#include "core/device.h"
#include "core/fork.h"
#include "transport/shared_regions.h"
#include "verbena/pool.h"

namespace verbena::transport {

/// Thread safety: as Pool.
class PoolMemory {
 public:
  /// `bytes`, rounded up to whole pages; 0: nothing is registered, and there is no block. Throws Error.
  PoolMemory(core::Device& device, ibv_pd* pd, SharedRegions& regions, std::size_t bytes);
  PoolMemory(const PoolMemory&) = delete;
  PoolMemory& operator=(const PoolMemory&) = delete;

  std::byte* take(std::size_t length) noexcept;
  void give(std::byte* block) noexcept;
  /// Throws Error (other_process) in a forked child.
  void require_this_process() const;
  bool contains(std::span<const std::byte> bytes) const noexcept;

  std::uint32_t lkey() const noexcept { return registration_.region ? registration_.region->lkey : 0; }
  /// By which peers may read all of it; 0 where there is none.
  std::uint32_t rkey() const noexcept { return registration_.region ? registration_.region->rkey : 0; }
  std::size_t pinned_bytes() const noexcept { return registration_.memory.size(); }
  Pool::Figures figures() noexcept;
  Pool& face() noexcept { return face_; }

 private:
  Registration registration_;
  core::OfProcess process_;
  core::BuddyAllocator blocks_;
  std::uint64_t exhausted_ = 0;
  Pool face_{*this};
};

}  // namespace verbena::transport
