// SPDX-License-Identifier: Apache-2.0
/// The pauses between the tries of a ReconnectPolicy.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>

#include "verbena/reconnect.h"

namespace verbena::rpc {

class Backoff {
 public:
  Backoff(const ReconnectPolicy& policy, std::uint32_t seed) : policy_(policy), chance_(seed) { reset(); }

  /// The pause before the next try: never longer than `most`.
  std::chrono::nanoseconds next() {
    const double share = 1 - policy_.jitter * std::uniform_real_distribution<double>{}(chance_);
    const auto pause = std::chrono::duration_cast<std::chrono::nanoseconds>(whole_ * share);
    whole_ = std::min<Milliseconds>(whole_ * policy_.factor, policy_.most);
    return pause;
  }
  void reset() { whole_ = policy_.first; }

 private:
  using Milliseconds = std::chrono::duration<double, std::milli>;
  ReconnectPolicy policy_;
  Milliseconds whole_{};
  std::minstd_rand chance_;
};

}  // namespace verbena::rpc
