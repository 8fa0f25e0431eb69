// SPDX-License-Identifier: Apache-2.0
/// What is to go wrong in a soft0, and how often: docs/fault-plan.md. A value; an empty plan is none.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace verbena::core::soft {

/// The same plan, and the same operations in the same order, give the same faults: chance comes from the seed
/// and the queue pair's ordinal, never from the time.
struct FaultPlan {
  std::uint64_t seed = 1;
  double drop = 0;                               ///< of each try of an operation: it is lost on its way
  double not_ready = 0;                          ///< of each try of what takes a receive: the peer has none
  std::chrono::nanoseconds late{0};              ///< how long a copy waits behind its key check
  double late_chance = 1;                        ///< of each one-sided copy
  std::chrono::nanoseconds completion_delay{0};  ///< how long a completion is kept back
  std::uint64_t failing_call = 0;                ///< the set-up call that fails, from 1; 0: none
  std::uint64_t link_life = 0;                   ///< operations of one queue pair; 0: without an end

  /// It changes what becomes of a posted operation.
  bool touches_operations() const noexcept {
    return drop > 0 || not_ready > 0 || late.count() > 0 || link_life > 0;
  }

  /// The plan that `text` says: "seed=7,drop=0.01,late=2ms". Throws Error (invalid_argument) naming the word
  /// that is wrong and what is allowed.
  static FaultPlan parse(std::string_view text);
  /// The plan of the environment variable VERBENA_FAULT; none where that is unset or empty. Throws as
  /// parse().
  static std::optional<FaultPlan> from_environment();
};

/// How long one operation may be kept back by one fault: whatever a plan says, no thread hangs.
inline constexpr std::chrono::nanoseconds longest_fault = std::chrono::seconds{10};

}  // namespace verbena::core::soft
