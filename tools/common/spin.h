// SPDX-License-Identifier: Apache-2.0
/// Waiting for another core by looking.
#pragma once

#include <sched.h>

namespace verbena::tools {

/// Returns once `happened()` is true. It looks without a pause instruction (some 40 cycles on recent cores, a
/// visible part of what is measured). After a time that no answer from another core takes, it gives the core
/// away at each look, so that two processes on one core make progress too, and calls `idle()` every now and
/// then.
template <typename Predicate, typename Idle>
inline void spin_until(Predicate&& happened, Idle&& idle) {
  constexpr unsigned patience = 50'000;  // looks: about 20 µs and more
  constexpr unsigned between_idles = 64;
  for (unsigned looks = 0; !happened(); ++looks)
    if (looks >= patience) [[unlikely]] {
      ::sched_yield();
      if (looks % between_idles == 0) idle();
    }
}

template <typename Predicate>
inline void spin_until(Predicate&& happened) {
  spin_until(happened, [] {});
}

}  // namespace verbena::tools
