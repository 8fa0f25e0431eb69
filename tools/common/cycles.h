// SPDX-License-Identifier: Apache-2.0
/// Time in ticks of the finest clock that is cheap to read: the processor's invariant time stamp counter
/// where there is one, else nanoseconds of CLOCK_MONOTONIC. One reading costs 7–20 ns, respectively 20–50 ns.
#pragma once

#include <time.h>

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace verbena::tools {

using Ticks = std::uint64_t;

namespace detail {
/// Chosen once, before main: does every core's counter run at one constant rate, in idle states too?
extern const bool has_invariant_tsc;
}  // namespace detail

inline std::uint64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

inline Ticks now_ticks() noexcept {
#if defined(__x86_64__)
  if (detail::has_invariant_tsc) [[likely]]
    return __rdtsc();
#endif
  return now_ns();
}

/// Measured against CLOCK_MONOTONIC on first use (10 ms; good to a few parts in 10^5).
double ns_per_tick();

/// The counter advances by about this at a time: 1, or 26 on a processor whose 2.6 GHz counter follows a 100
/// MHz clock.
double tick_step();

inline double to_ns(Ticks ticks) {
  return static_cast<double>(ticks) * ns_per_tick();
}
inline Ticks to_ticks(double ns) {
  return static_cast<Ticks>(ns / ns_per_tick());
}

}  // namespace verbena::tools
