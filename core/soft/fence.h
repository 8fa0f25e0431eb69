// SPDX-License-Identifier: Apache-2.0
/// Fences whose whole cost is on the rare side.
///
/// Two sides each store, then load what the other stores; one must see the other. The frequent side (a send,
/// an access) uses `light_fence`, a compiler barrier; the rare side (arming, revoking) uses `heavy_fence`, an
/// expedited membarrier(2), which runs a full fence on every CPU that executes a thread of a registered
/// process. Where the kernel has none, both sides pay for a real fence.
#pragma once

#include <atomic>

namespace verbena::core::soft {

/// Registers this process; true if the kernel has expedited membarriers. Idempotent.
bool asymmetric_fences() noexcept;

/// Between the frequent side's store and its load. `real` where either side lacks membarrier.
inline void light_fence(bool real) noexcept {
  if (real) [[unlikely]] {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  } else {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
}

/// Between the rare side's store and its load.
void heavy_fence() noexcept;

}  // namespace verbena::core::soft
