// SPDX-License-Identifier: Apache-2.0
#include "verbena/histogram.h"

#include <cmath>
#include <type_traits>

namespace verbena {

static_assert(std::is_trivially_copyable_v<Histogram>);
static_assert(sizeof(Histogram) < 10 * 1024);

std::uint64_t Histogram::quantile(double q) const noexcept {
  if (count_ == 0) return 0;
  const double rank = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const auto wanted = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(rank), 1, count_);
  std::uint64_t seen = 0;
  std::size_t i = 0;
  while ((seen += buckets_[i]) < wanted) ++i;
  if (i + 1 == buckets_.size() && beyond_ > 0) return max_;  // the last bucket has no upper end then
  const std::uint64_t middle = lowest_of(i) + (highest_of(i) - lowest_of(i) + 1) / 2;
  return std::clamp(middle, min_, max_);
}

void Histogram::merge(const Histogram& other) noexcept {
  for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  beyond_ += other.beyond_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

Histogram Histogram::since(const Histogram& earlier) const noexcept {
  const auto less = [](std::uint64_t now, std::uint64_t then) { return now > then ? now - then : 0; };
  Histogram difference;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    const std::uint64_t count = less(buckets_[i], earlier.buckets_[i]);
    if (count == 0) continue;
    difference.buckets_[i] = count;
    difference.count_ += count;
    difference.min_ = std::min(difference.min_, std::max(lowest_of(i), min_));
    difference.max_ = std::min(highest_of(i), max_);
  }
  difference.sum_ = less(sum_, earlier.sum_);
  difference.beyond_ = less(beyond_, earlier.beyond_);
  if (difference.beyond_ > 0) difference.max_ = max_;
  return difference;
}

}  // namespace verbena
