// SPDX-License-Identifier: Apache-2.0
/// A lock for what one thread uses all the time and others now and then: that thread pays two stores and two
/// loads, no atomic exchange; the others pay a membarrier.
///
/// The first thread that takes it often and alone becomes its owner. The owner raises `inside_` and looks
/// whether the lock is still biased towards it; whoever else comes lifts the bias, runs a heavy fence, and
/// waits until `inside_` is down. One of the two sees the other (see fence.h). Where others come often the
/// bias is given up for good, and this is a spin lock.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/soft/spin_lock.h"

namespace verbena::core::soft {

/// Names this thread while it lives; one instruction.
[[gnu::tls_model("initial-exec")]] inline thread_local constinit char this_thread_mark = 0;

class BiasedLock {
 public:
  void lock() noexcept {
    if (!enter()) [[unlikely]]
      lock_slowly();
  }
  /// Never waits: for whoever holds another lock already.
  bool try_lock() noexcept {
    const bool is_ours = inside_.load(std::memory_order_relaxed) && is_owner();  // it isn't recursive
    return !is_ours && (enter() || try_lock_slowly());
  }
  void unlock() noexcept {
    // Only the owner raises it for longer than enter() takes; release: what it did inside.
    if (inside_.load(std::memory_order_relaxed) && is_owner()) [[likely]] {
      inside_.store(false, std::memory_order_release);
    } else {
      unlock_slowly();
    }
  }

 private:
  bool is_owner() const noexcept { return owner_.load(std::memory_order_relaxed) == &this_thread_mark; }
  bool is_biased_towards_us() const noexcept {
    return bias_.load(std::memory_order_acquire) == &this_thread_mark;  // acquire: pairs with unlock_slowly
  }
  bool enter() noexcept {
    if (!is_biased_towards_us()) return false;
    inside_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the light side of lift_bias()'s heavy fence
    if (is_biased_towards_us()) [[likely]]
      return true;
    inside_.store(false, std::memory_order_release);
    return false;
  }
  void lock_slowly() noexcept;
  bool try_lock_slowly() noexcept;
  void unlock_slowly() noexcept;
  bool lift_bias(bool wait) noexcept;
  void look_for_owner() noexcept;

  // Invariants: `bias_` is `owner_` or null, and null while anyone but the owner is inside. `owner_` is set
  // once and cleared once: so one thread only ever writes `inside_`.
  std::atomic<const char*> bias_{nullptr};
  std::atomic<const char*> owner_{nullptr};
  std::atomic<bool> inside_{false};
  SpinLock held_;  // by whoever came in slowly, who also guards what follows

  const char* last_ = nullptr;
  std::uint32_t streak_ = 0;
  std::uint32_t intrusions_ = 0;   // of others, since …
  std::int64_t counted_from_ = 0;  // … this time, ns
  bool had_owner_ = false;
};

}  // namespace verbena::core::soft
