// SPDX-License-Identifier: Apache-2.0
/// A lock between threads of one process, held for the length of a post or a poll. Never shared between
/// processes: a dead owner holds nothing that others wait for.
#pragma once

#include <sched.h>

#include <atomic>

namespace verbena::core::soft {

/// Spins a few µs, then gives up its CPU: whoever is waited for has likely lost its own.
template <class Condition>
void spin_until(Condition condition) noexcept {
  constexpr int spins_before_yield = 256;
  for (int spins = 0; !condition(); ++spins) {
    if (spins < spins_before_yield) {
      __builtin_ia32_pause();
    } else {
      ::sched_yield();
    }
  }
}

class SpinLock {
 public:
  void lock() noexcept {
    if (!held_.exchange(true, std::memory_order_acquire)) [[likely]]
      return;
    lock_slowly();
  }
  bool try_lock() noexcept {
    return !held_.load(std::memory_order_relaxed) && !held_.exchange(true, std::memory_order_acquire);
  }
  void unlock() noexcept { held_.store(false, std::memory_order_release); }

 private:
  [[gnu::noinline]] void lock_slowly() noexcept {
    spin_until([this] { return try_lock(); });
  }
  std::atomic<bool> held_{false};
};

}  // namespace verbena::core::soft
