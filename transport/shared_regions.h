// SPDX-License-Identifier: Apache-2.0
/// The Regions of shared memory that a Loop has allocated: which of them does a payload lie in?
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "core/handle.h"
#include "core/lending.h"
#include "core/shared_memory.h"

namespace verbena::transport {

class SharedRegions;

/// What a Region holds: the memory, where it is ours, outlives its registrations.
struct Registration {
  Registration() = default;
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  core::SharedMemory memory;
  core::Handle<ibv_mr> region;
  core::Handle<ibv_mr> lent;  ///< the same bytes, to be read and no more; made for the first loan
  SharedRegions* known_to = nullptr;
};

/// Thread safety: none; it belongs to one loop.
class SharedRegions {
 public:
  SharedRegions(core::Device& device, ibv_pd* pd) noexcept : device_(device), pd_(pd) {}

  void add(Registration& registration);
  void remove(Registration& registration) noexcept;
  /// The key by which the peers of this host may be lent `bytes`; 0 where they don't lie in one Region, or
  /// can't be mapped.
  std::uint32_t key_of(std::span<const std::byte> bytes) noexcept;
  /// The pages of the one Region that `bytes` lie in, so that peers may map them.
  std::optional<core::SharedRange> range_of(std::span<const std::byte> bytes) noexcept;

 private:
  Registration* find(std::span<const std::byte> bytes) noexcept;

  core::Device& device_;
  ibv_pd* pd_;
  std::vector<Registration*> by_address_;
  Registration* last_ = nullptr;  // most payloads lie where the one before did
};

}  // namespace verbena::transport
