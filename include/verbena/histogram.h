// SPDX-License-Identifier: Apache-2.0
/// How often which time was measured: a log-linear histogram, as HdrHistogram has it.
///
/// Every power of two is divided into 32 buckets of one width. So a quantile is wrong by at most 1/64 (1.6 %)
/// of itself, and values below 64 ns are exact. Values from 2^40 ns (18 minutes) on go to the last bucket,
/// and are counted in beyond() as well. It takes 9 KiB, always; recording is a few instructions and allocates
/// nothing.
///
/// Thread safety: none. It is trivially copyable: a copy that its thread makes is a snapshot for others.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace verbena {

class Histogram {
 public:
  static constexpr unsigned precision_bits = 5;
  static constexpr unsigned limit_bits = 40;
  static constexpr std::uint64_t limit = std::uint64_t{1} << limit_bits;  ///< ns; the first that is beyond

  void record(std::uint64_t ns, std::uint64_t times = 1) noexcept {
    buckets_[index_of(std::min(ns, limit - 1))] += times;
    count_ += times;
    sum_ += ns * times;
    beyond_ += ns >= limit ? times : 0;
    min_ = std::min(min_, ns);
    max_ = std::max(max_, ns);
  }

  /// For one that is read back bucket by bucket, as for_each() gave them: what buckets don't say.
  void set_exact(std::uint64_t sum, std::uint64_t min, std::uint64_t max, std::uint64_t beyond) noexcept {
    sum_ = sum;
    min_ = count_ == 0 ? min_ : min;
    max_ = max;
    beyond_ = beyond;
  }

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t beyond() const noexcept { return beyond_; }
  /// Exact, in ns, as min() and max() are; 0 where nothing was recorded.
  std::uint64_t sum() const noexcept { return sum_; }
  std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  std::uint64_t max() const noexcept { return max_; }
  /// The value, in ns, that the share `q` (0 to 1) of what was recorded doesn't exceed: 0.5 is the median. 0
  /// where nothing was recorded.
  std::uint64_t quantile(double q) const noexcept;

  /// Adds what `other` has.
  void merge(const Histogram& other) noexcept;
  /// What was recorded since `earlier`, an older copy of this. min() and max() are then as good as quantiles.
  Histogram since(const Histogram& earlier) const noexcept;

  /// Calls `visit(lowest, highest, count)` for each bucket that has something, in ascending order. The
  /// bounds, in ns, are inclusive.
  template <class Visit>
  void for_each(Visit visit) const {
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      if (buckets_[i] != 0) visit(lowest_of(i), highest_of(i), buckets_[i]);
    }
  }

  friend bool operator==(const Histogram&, const Histogram&) = default;

 private:
  static constexpr std::uint64_t half = std::uint64_t{1} << precision_bits;  // buckets in a power of two

  // The topmost 1 + precision_bits bits of the value, behind those of all lower powers.
  static constexpr std::size_t index_of(std::uint64_t ns) noexcept {
    const auto shift = static_cast<unsigned>(std::bit_width(ns | half)) - (precision_bits + 1);
    return (std::size_t{shift} << precision_bits) + static_cast<std::size_t>(ns >> shift);
  }
  static constexpr std::uint64_t lowest_of(std::size_t index) noexcept {
    if (index < 2 * half) return index;
    return (half + index % half) << (index / half - 1);
  }
  static constexpr std::uint64_t highest_of(std::size_t index) noexcept { return lowest_of(index + 1) - 1; }

  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t beyond_ = 0;
  std::uint64_t min_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t max_ = 0;
  // Those below 2^precision_bits, and as many for each power of two from there on.
  std::array<std::uint64_t, (limit_bits - precision_bits + 1) << precision_bits> buckets_{};
};

}  // namespace verbena
