// SPDX-License-Identifier: Apache-2.0
#include "core/soft/biased_lock.h"

#include "core/monotonic_ns.h"
#include "core/soft/fence.h"
#include "core/soft/race_detector.h"

namespace verbena::core::soft {
namespace {

bool may_be_biased() noexcept {
#if VERBENA_THREAD_SANITIZER
  return false;  // it doesn't know membarrier(2)
#else
  return asymmetric_fences();
#endif
}

}  // namespace

void BiasedLock::lock_slowly() noexcept {
  held_.lock();
  lift_bias(true);
  look_for_owner();
}

bool BiasedLock::try_lock_slowly() noexcept {
  if (!held_.try_lock()) return false;
  if (lift_bias(false)) return true;
  unlock_slowly();
  return false;
}

void BiasedLock::unlock_slowly() noexcept {
  bias_.store(owner_.load(std::memory_order_relaxed), std::memory_order_release);  // what was done inside
  held_.unlock();
}

// Under `held_`. False where the owner is inside and we aren't to wait.
bool BiasedLock::lift_bias(bool wait) noexcept {
  if (owner_.load(std::memory_order_relaxed) == nullptr || is_owner()) return true;
  bias_.store(nullptr, std::memory_order_relaxed);
  heavy_fence();  // the bias is lifted, then the owner is looked for
  const auto is_out = [this] { return !inside_.load(std::memory_order_acquire); };  // what it did inside
  if (!wait && !is_out()) return false;
  spin_until(is_out);
  constexpr std::uint32_t most_intrusions = 64;   // in …
  constexpr std::int64_t window_ns = 10'000'000;  // … so long: 64 membarriers cost 1 % of it
  const std::int64_t now = monotonic_ns();
  if (now - counted_from_ > window_ns) {
    counted_from_ = now;
    intrusions_ = 0;
  }
  if (++intrusions_ > most_intrusions) owner_.store(nullptr, std::memory_order_relaxed);
  return true;
}

// Under `held_`.
void BiasedLock::look_for_owner() noexcept {
  constexpr std::uint32_t long_streak = 256;
  if (had_owner_) return;
  if (last_ != &this_thread_mark) {
    last_ = &this_thread_mark;
    streak_ = 0;
  } else if (++streak_ == long_streak && may_be_biased()) {
    had_owner_ = true;
    owner_.store(&this_thread_mark, std::memory_order_relaxed);  // the bias follows when this holding ends
  }
}

}  // namespace verbena::core::soft
