// SPDX-License-Identifier: Apache-2.0
/// Every single measurement of a run, and exact percentiles of them.
///
/// Where the counter advances in steps (see tick_step), a sample stands for all times within half a step of
/// it, evenly spread, and percentiles are taken of those: else a median near 110 ns could only ever be 110 or
/// 120.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tools/common/cycles.h"

namespace verbena::tools {

/// What a run's samples say, in nanoseconds.
struct Distribution {
  double min = 0, p50 = 0, p99 = 0, p999 = 0, max = 0;
};

/// Memory for every sample is taken and touched up front, so that adding one never faults a page in.
class Samples {
 public:
  explicit Samples(std::size_t capacity) : ticks_(capacity) {}

  /// Cost: one store. The caller keeps within `room()`.
  void add(Ticks ticks) noexcept {
    constexpr Ticks most = std::numeric_limits<std::uint32_t>::max();  // over a second at 3 GHz
    ticks_[count_++] = static_cast<std::uint32_t>(ticks < most ? ticks : most);
  }
  std::size_t count() const noexcept { return count_; }
  std::size_t room() const noexcept { return ticks_.size() - count_; }

  /// Forgets all samples from the `count`th on: a round that is discarded.
  void rewind(std::size_t count) noexcept { count_ = count; }
  /// Holds those that `other` has from `first` on, as many as there is room for, and nothing else; `other`
  /// forgets them.
  void take_from(Samples& other, std::size_t first) noexcept;

  /// Sorts the samples from `first` on in place. `parts`: 2 reports halves of round trips, 1 whole ones.
  /// Zeros where there is no sample.
  Distribution distribution(unsigned parts = 1, std::size_t first = 0);
  /// In nanoseconds, of whole round trips. 0 where there is no sample.
  double mean_ns() const noexcept;
  /// In nanoseconds, of the samples from `first` on, which it sorts.
  double median_ns(std::size_t first = 0) { return distribution(1, first).p50; }

 private:
  std::vector<std::uint32_t> ticks_;
  std::size_t count_ = 0;
};

/// The middle one of `values`, or 0 where there is none.
double median(std::vector<double> values);

}  // namespace verbena::tools
