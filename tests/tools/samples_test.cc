// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tools/common/samples.h"

namespace verbena::tools {
namespace {

/// The most that a percentile may be off: the counter's step.
double step_ns() {
  return std::max(1.0, tick_step()) * ns_per_tick();
}

TEST(Samples, PercentilesAreNearestRanks) {
  Samples samples(1000);
  for (Ticks i = 1000; i > 0; --i) samples.add(i * 1000);
  const Distribution found = samples.distribution();
  EXPECT_DOUBLE_EQ(found.min, to_ns(1000));
  EXPECT_NEAR(found.p50, to_ns(500'000), step_ns());
  EXPECT_NEAR(found.p99, to_ns(990'000), step_ns());
  EXPECT_NEAR(found.p999, to_ns(999'000), step_ns());
  EXPECT_DOUBLE_EQ(found.max, to_ns(1'000'000));
}

TEST(Samples, HalvesOfRoundTrips) {
  Samples samples(1);
  samples.add(2000);
  EXPECT_NEAR(samples.distribution(2).p50, to_ns(1000), step_ns());
}

TEST(Samples, NoneAreZeros) {
  Samples samples(4);
  EXPECT_EQ(samples.distribution().max, 0);
  EXPECT_EQ(samples.mean_ns(), 0);
}

TEST(Samples, ARoundThatIsDiscardedLeavesNothing) {
  Samples samples(4);
  samples.add(100);
  const std::size_t kept = samples.count();
  samples.add(1'000'000);
  samples.rewind(kept);
  EXPECT_EQ(samples.room(), 3U);
  EXPECT_DOUBLE_EQ(samples.distribution().max, to_ns(100));
}

TEST(Samples, ATimeTooLongForASampleIsTheLongest) {
  Samples samples(1);
  samples.add(~Ticks{0});
  EXPECT_GT(samples.distribution().max, 1e9);
}

TEST(Median, IsTheMiddleOne) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({}), 0);
}

}  // namespace
}  // namespace verbena::tools
