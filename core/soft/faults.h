// SPDX-License-Identifier: Apache-2.0
/// What becomes of one queue pair's operations by a fault plan. It knows neither devices nor clocks: it is
/// asked, and told the time.
#pragma once

#include <cstdint>

#include "core/soft/fault_plan.h"

namespace verbena::core::soft {

/// A small generator of chance (splitmix64): two of them with different seeds have nothing in common.
class Chance {
 public:
  explicit Chance(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t word() noexcept;
  /// True with that probability. Draws a number only where there is a doubt.
  bool of(double probability) noexcept;

 private:
  std::uint64_t state_;
};

/// Guarded as its queue pair is: late_answer() by the receive completion queue's lock, the rest by the send
/// completion queue's.
class Faults {
 public:
  /// `ordinal`: which queue pair of the context it is, in the order of their creation.
  Faults(const FaultPlan& plan, std::uint64_t ordinal) noexcept;

  /// How a queue pair was told to deal with loss.
  struct Patience {
    std::int64_t timeout_ns;    ///< before a lost try is repeated
    std::uint32_t retries;      ///< of a lost one
    std::int64_t not_ready_ns;  ///< before a try that met no receive is repeated
    std::uint32_t not_ready_retries;
    static constexpr std::uint32_t for_ever = 7;  ///< of not_ready_retries
  };
  enum class Fate : std::uint8_t {
    goes,
    waits,    ///< ask again later
    lost,     ///< its retries are used up
    refused,  ///< its retries for want of a receive are used up
    cut,      ///< the link is no more
  };
  /// Of the operation at the queue's front, asked as often as it is tried. ns of a monotonic clock.
  Fate fate(bool takes_receive, std::int64_t now, const Patience& patience) noexcept;
  /// It has been carried out: the next one is another.
  void went() noexcept { begun_ = false; }
  /// The queue pair has been reset: its next link is a new one.
  void begin_anew() noexcept {
    begun_ = false;
    operations_ = 0;
  }

  /// How long the copy of the operation at the front comes late, in ns; the second time 0.
  std::int64_t late_request() noexcept;
  /// The same of a copy that answers the peer.
  std::int64_t late_answer() noexcept;

 private:
  FaultPlan plan_;
  Chance requests_;
  Chance answers_;
  std::uint64_t operations_ = 0;
  std::int64_t until_ = 0;
  std::uint32_t losses_ = 0;
  std::uint32_t refusals_ = 0;
  bool begun_ = false;
  bool through_ = false;  // it waits for nothing of ours any more
  bool is_late_ = false;
};

}  // namespace verbena::core::soft
