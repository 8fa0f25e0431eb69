// SPDX-License-Identifier: Apache-2.0
#include "tools/common/cycles.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace verbena::tools {
namespace {

bool look_for_invariant_tsc() noexcept {
#if defined(__x86_64__)
  constexpr unsigned power_management_leaf = 0x8000'0007;  // EDX bit 8: invariant TSC (Intel SDM, AMD APM)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(power_management_leaf, &a, &b, &c, &d) != 0 && ((d >> 8) & 1) != 0;
#else
  return false;
#endif
}

double calibrate() {
  if (!detail::has_invariant_tsc) return 1.0;
  constexpr std::uint64_t window_ns = 10'000'000;
  const std::uint64_t start_ns = now_ns();
  const Ticks start = now_ticks();
  std::uint64_t end_ns = start_ns;
  while (end_ns - start_ns < window_ns) end_ns = now_ns();
  return static_cast<double>(end_ns - start_ns) / static_cast<double>(now_ticks() - start);
}

/// How far the counter gets over delays of many lengths, in single ticks.
std::vector<Ticks> advances() {
  constexpr unsigned readings = 4000, lengths = 16;
  std::vector<Ticks> found;
  Ticks before = now_ticks();
  for (unsigned i = 0; i < readings; ++i) {
    for (unsigned delay = 0; delay < i % lengths; ++delay)
      std::atomic_signal_fence(std::memory_order_seq_cst);
    const Ticks now = now_ticks();
    found.push_back(now - before);
    before = now;
  }
  return found;
}

/// Whether a counter in steps of `step` explains `advance`, give or take the tick that scaling by a
/// hypervisor rounds.
bool is_multiple(Ticks advance, Ticks step) {
  return (advance + 1) % step <= 2;
}

/// The commonest advance is the step, if nearly all others are multiples of it. A counter without steps shows
/// as many different advances as there were delays.
double find_step() {
  constexpr Ticks longest = 256;
  std::vector<Ticks> found = advances();
  std::erase_if(found, [](Ticks advance) { return advance <= 4 || advance > longest; });
  std::array<int, longest + 1> times{};
  for (const Ticks advance : found) ++times[advance];
  const auto step = static_cast<Ticks>(std::max_element(times.begin(), times.end()) - times.begin());
  if (step <= 4) return 1;
  const auto explained =
      std::count_if(found.begin(), found.end(), [&](Ticks advance) { return is_multiple(advance, step); });
  return explained * 100 >= std::ssize(found) * 95 ? static_cast<double>(step) : 1;
}

}  // namespace

const bool detail::has_invariant_tsc = look_for_invariant_tsc();

double ns_per_tick() {
  static const double value = calibrate();
  return value;
}

double tick_step() {
  static const double value = find_step();
  return value;
}

}  // namespace verbena::tools
