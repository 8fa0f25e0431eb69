// SPDX-License-Identifier: Apache-2.0
#include "core/cache/thread_counter.h"

#include <bit>

namespace verbena::core::detail {
namespace {

static_assert(thread_places == 64, "one word of free places");
std::atomic<std::uint64_t> free_places{~std::uint64_t{0}};

/// Gives the place back when its thread ends.
class Lease {
 public:
  Lease() noexcept {
    std::uint64_t free = free_places.load(std::memory_order_relaxed);  // a guess: the exchange decides
    do {
      if (free == 0) return;
      place_ = static_cast<unsigned>(std::countr_zero(free));
      // Acquire: what the place's last thread has counted is seen before this one counts on.
    } while (!free_places.compare_exchange_weak(free, free & (free - 1), std::memory_order_acquire,
                                                std::memory_order_relaxed));
    held_ = true;
  }
  ~Lease() {
    thread_place = thread_places;  // whatever this thread still counts goes to the place that all share
    // Release: as above.
    if (held_) free_places.fetch_or(std::uint64_t{1} << place_, std::memory_order_release);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  unsigned place() const noexcept { return held_ ? place_ : thread_places; }

 private:
  unsigned place_ = 0;
  bool held_ = false;
};

}  // namespace

unsigned place_thread() noexcept {
  static thread_local const Lease lease;
  return thread_place = lease.place();
}

}  // namespace verbena::core::detail
