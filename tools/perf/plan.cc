// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/plan.h"

#include <fmt/format.h>

#include <verbena/options.h>
#include <algorithm>

#include "tools/common/failure.h"
#include "tools/common/units.h"

namespace verbena::tools {

void check_sizes(const TestTraits& test, const std::vector<std::uint64_t>& sizes) {
  for (const std::uint64_t size : sizes) {
    if (size >= test.least && size <= test.most) continue;
    if (test.least == test.most)
      throw UsageError(
          fmt::format("{} is always of {}; leave --size {} away.", test.name, show_size(test.least), size));
    throw UsageError(fmt::format("--size {} is too {} for {}, which takes {} to {}.", size,
                                 size < test.least ? "small" : "large", test.name, show_size(test.least),
                                 show_size(test.most)));
  }
}

std::uint32_t depth_for(const Plan& plan, std::uint64_t size) {
  if (plan.depth != 0) return plan.depth;
  constexpr std::uint64_t most_bytes = 64 << 20, fewest = 2;
  const std::uint64_t most = traits_of(plan.test).most_deep;
  return static_cast<std::uint32_t>(
      std::min(most, std::max(fewest, most_bytes / std::max<std::uint64_t>(size, 1))));
}

std::uint64_t longest_message(const Plan& plan) {
  switch (plan.test) {
    case TestKind::send_latency:
    case TestKind::send_bandwidth:
    case TestKind::call_latency:
    case TestKind::call_rate:
    case TestKind::call_bandwidth:
    case TestKind::lend_latency:
      return *std::max_element(plan.sizes.begin(), plan.sizes.end());
    default:
      return 0;
  }
}

Options loop_options(const std::string& device, std::uint64_t most, std::uint32_t depth, bool pinned) {
  constexpr std::uint32_t fewest = 16;  // orders and answers have to pass as well
  Options options;
  options.device = device;
  options.peers = 4;  // orders and calls; and those of the size before, which may still be ending
  options.request_depth = std::max(depth, fewest);
  options.call_depth = std::max(depth, fewest);
  options.send_depth = std::max(2 * depth, 8 * fewest);
  if (most > options.eager_size) {             // each of the large messages under way has its place
    constexpr std::uint32_t most_large = 255;  // what the library takes
    constexpr std::uint64_t most_bytes = 64 << 20;
    options.large_depth = std::clamp(depth, options.large_depth, most_large);
    options.large_bytes =
        std::max({std::min(most * options.large_depth, most_bytes), most, options.large_bytes});
  } else {
    options.large_bytes = std::size_t{64} << 10;
  }
  constexpr std::chrono::milliseconds long_spin{10};  // between two hosts no one waits in sleep for the other
  options.spin = long_spin;
  options.busy_poll = pinned;
  return options;
}

}  // namespace verbena::tools
