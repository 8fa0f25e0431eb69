// SPDX-License-Identifier: Apache-2.0
#include "transport/costs.h"

#include <gtest/gtest.h>

#include <limits>

namespace verbena::test {
namespace {

using transport::Cost;
using transport::Costs;

constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

TEST(CostsTest, ReadingBeginsAtThePowerOfTwoFromWhichItIsClearlyCheaper) {
  const Costs costs{{100, 0.5}, {1100, 0.25}};  // 1000 ns more, of which each byte saves a quarter
  EXPECT_EQ(costs.read_from(), 8192U);
  EXPECT_GE(costs.copied.of(costs.read_from()) - costs.read.of(costs.read_from()), 1000);
}

TEST(CostsTest, ReadingThatSavesNothingIsNeverBegun) {
  EXPECT_EQ((Costs{{100, 0.5}, {1100, 0.5}}).read_from(), never);
  EXPECT_EQ((Costs{{100, 0.25}, {1100, 0.5}}).read_from(), never);
  EXPECT_EQ((Costs{{100, 0.5}, {1e18, 0.25}}).read_from(), never);
}

TEST(CostsTest, ReadingThatIsAlwaysCheaperBeginsAtOnce) {
  EXPECT_EQ((Costs{{100, 0.5}, {50, 0.25}}).read_from(), 1U);
}

}  // namespace
}  // namespace verbena::test
