// SPDX-License-Identifier: Apache-2.0
#include "tools/common/samples.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

namespace verbena::tools {
namespace {

using Sorted = std::span<const std::uint32_t>;

/// The smallest time that at least `part` of all samples don't exceed, in ticks.
double percentile(Sorted samples, double part) {
  const double rank = std::max(1.0, std::ceil(part * static_cast<double>(samples.size())));
  const std::uint32_t value = samples[static_cast<std::size_t>(rank) - 1];
  const double step = tick_step();
  if (step <= 1) return value;
  // A counter that a hypervisor scales rounds its steps: a neighbouring value belongs to the same one.
  const auto first = std::lower_bound(samples.begin(), samples.end(), value - std::min(value, 1U));
  const auto last = std::upper_bound(first, samples.end(), value + 1);
  const double within =
      (rank - static_cast<double>(first - samples.begin())) / static_cast<double>(last - first);
  return std::clamp<double>(value + step * (within - 0.5), samples.front(), samples.back());
}

}  // namespace

void Samples::take_from(Samples& other, std::size_t first) noexcept {
  count_ = std::min(other.count_ - first, ticks_.size());
  std::copy_n(other.ticks_.begin() + static_cast<std::ptrdiff_t>(first), count_, ticks_.begin());
  other.count_ = first;
}

Distribution Samples::distribution(unsigned parts, std::size_t first) {
  if (first >= count_) return {};
  std::sort(ticks_.begin() + static_cast<std::ptrdiff_t>(first),
            ticks_.begin() + static_cast<std::ptrdiff_t>(count_));
  const Sorted samples{ticks_.data() + first, count_ - first};
  const double scale = ns_per_tick() / parts;
  const auto at = [&](double part) { return percentile(samples, part) * scale; };
  return {samples.front() * scale, at(0.5), at(0.99), at(0.999), samples.back() * scale};
}

double Samples::mean_ns() const noexcept {
  if (count_ == 0) return 0;
  const auto end = ticks_.begin() + static_cast<std::ptrdiff_t>(count_);
  return to_ns(std::accumulate(ticks_.begin(), end, Ticks{0})) / static_cast<double>(count_);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace verbena::tools
