// SPDX-License-Identifier: Apache-2.0
/// A counter that many threads raise all the time, and somebody reads now and then.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace verbena::core {

namespace detail {
inline constexpr unsigned thread_places = 64;
/// A number below thread_places that no other living thread has; thread_places itself where they are all
/// given away; `unplaced` before the thread first asks.
inline constexpr unsigned unplaced = ~0U;
inline thread_local constinit unsigned thread_place = unplaced;
/// Gives the calling thread its number, until it ends.
unsigned place_thread() noexcept;
}  // namespace detail

class ThreadCounter {
 public:
  /// Cost: a load and a store of a line of the thread's own, no locked instruction.
  void raise() noexcept {
    unsigned place = detail::thread_place;
    if (place >= detail::thread_places) [[unlikely]] {
      if (place == detail::unplaced) place = detail::place_thread();
      if (place >= detail::thread_places) {
        places_[place].value.fetch_add(1, std::memory_order_relaxed);  // a figure, nothing follows from it
        return;
      }
    }
    // Relaxed: a figure. Not atomic as a whole, which it needn't be: the place is this thread's.
    auto& value = places_[place].value;
    value.store(value.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  std::uint64_t read() const noexcept {
    std::uint64_t sum = 0;
    for (const Place& place : places_) sum += place.value.load(std::memory_order_relaxed);  // a figure
    return sum;
  }

 private:
  struct alignas(64) Place {
    std::atomic<std::uint64_t> value{0};
  };
  std::array<Place, detail::thread_places + 1> places_;
};

}  // namespace verbena::core
