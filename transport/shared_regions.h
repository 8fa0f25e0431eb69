// SPDX-License-Identifier: Apache-2.0
/// The Regions of shared memory that a Loop has allocated: which of them does a payload lie in?
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "core/handle.h"
#include "core/lending.h"
#include "core/shared_memory.h"

namespace verbena::transport {

class SharedRegions;

/// A registration of a Region's bytes, to be read by peers and no more, for the messages that lie there: made
/// for the first of them, and counted.
struct ReadRight {
  core::Handle<ibv_mr> region;  ///< empty once the Region has ended
  std::uint32_t holders = 0;
  bool is_orphaned = false;  ///< the last holder deletes it
};

/// What a Region holds: the memory, where it is ours, outlives its registrations.
struct Registration {
  Registration() = default;
  explicit Registration(core::SharedMemory shared) noexcept : memory(std::move(shared)) {}
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  /// Whether all of `bytes` lie in its memory.
  bool holds(std::span<const std::byte> bytes) const noexcept;

  core::SharedMemory memory;
  core::Handle<ibv_mr> region;
  ReadRight* reads = nullptr;
  SharedRegions* known_to = nullptr;
};

/// Thread safety: none; it belongs to one loop.
class SharedRegions {
 public:
  SharedRegions(core::Device& device, ibv_pd* pd) noexcept : device_(device), pd_(pd) {}

  enum class Reason {
    can_be_mapped,  ///< known where peers may map it, for that
    is_pool,        ///< known on any device, so that what lies in it needs no registration of its own
  };
  void add(Registration& registration, Reason reason = Reason::can_be_mapped);
  void remove(Registration& registration) noexcept;
  /// By which the peers of this host may read `bytes`, and all else that lies in their Region; nullptr where
  /// they don't lie in one.
  ReadRight* right_to_read(std::span<const std::byte> bytes) noexcept;

 private:
  Registration* find(std::span<const std::byte> bytes) noexcept;

  core::Device& device_;
  ibv_pd* pd_;
  std::vector<Registration*> by_address_;
  Registration* last_ = nullptr;  // most payloads lie where the one before did
};

}  // namespace verbena::transport
