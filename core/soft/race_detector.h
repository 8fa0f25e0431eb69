// SPDX-License-Identifier: Apache-2.0
/// What ThreadSanitizer must be told; nothing in any other build.
///
/// It knows what is ordered by the address that one thread stores to and another loads from. A line that two
/// queue pairs share has an address for each of its mappings, so between threads of one process it doesn't
/// see the order that the line gives. Told for which queue pair the order is, it still finds what has none.
#pragma once

#include <cstdint>

#ifdef __has_feature  // clang's way to say it
#define VERBENA_THREAD_SANITIZER __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define VERBENA_THREAD_SANITIZER 1
#else
#define VERBENA_THREAD_SANITIZER 0
#endif

#if VERBENA_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>

namespace verbena::core::soft {

/// Numbers that share a place are taken for ordered: that hides races, and invents none.
inline char order_places[1024];
inline void* order_place(std::uint32_t queue_pair) noexcept {
  return &order_places[queue_pair % sizeof order_places];
}

}  // namespace verbena::core::soft
#endif

namespace verbena::core::soft {

inline constexpr bool race_detector = VERBENA_THREAD_SANITIZER;

/// Beside a release store that the queue pair of this number will see.
inline void order_released_to([[maybe_unused]] std::uint32_t queue_pair) noexcept {
#if VERBENA_THREAD_SANITIZER
  __tsan_release(order_place(queue_pair));
#endif
}

/// Beside an acquire load by the queue pair of this number that has seen what its peer stored.
inline void order_acquired_by([[maybe_unused]] std::uint32_t queue_pair) noexcept {
#if VERBENA_THREAD_SANITIZER
  __tsan_acquire(order_place(queue_pair));
#endif
}

}  // namespace verbena::core::soft
