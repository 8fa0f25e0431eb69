// SPDX-License-Identifier: Apache-2.0
/// A lock between threads of one process, held for the length of a post or a poll. Never shared between
/// processes: a dead owner holds nothing that others wait for.
#pragma once

#include <sched.h>

#include <atomic>

namespace verbena::core::soft {

class SpinLock {
 public:
  void lock() noexcept {
    if (!held_.exchange(true, std::memory_order_acquire)) [[likely]]
      return;
    lock_slow();
  }
  bool try_lock() noexcept {
    return !held_.load(std::memory_order_relaxed) && !held_.exchange(true, std::memory_order_acquire);
  }
  void unlock() noexcept { held_.store(false, std::memory_order_release); }

 private:
  [[gnu::noinline]] void lock_slow() noexcept {
    constexpr int spins_before_yield = 256;  // a few µs: longer, and the holder has likely lost its CPU
    for (int spins = 0;; ++spins) {
      if (try_lock()) return;
      if (spins < spins_before_yield) {
        __builtin_ia32_pause();
      } else {
        ::sched_yield();
      }
    }
  }
  std::atomic<bool> held_{false};
};

}  // namespace verbena::core::soft
