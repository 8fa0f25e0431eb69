// SPDX-License-Identifier: Apache-2.0
// The histogram against the sorted values themselves.
#include "verbena/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/seed.h"

namespace verbena::test {
namespace {

constexpr double quantiles[] = {0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};

/// The value of rank ⌈q·n⌉, counted from 1.
std::uint64_t exact(const std::vector<std::uint64_t>& sorted, double q) {
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

/// Any size of number is as likely as any other.
std::uint64_t some_value(Dice& dice) {
  return dice.word() >> dice.between(64 - 40, 63);
}

Histogram histogram_of(const std::vector<std::uint64_t>& values) {
  Histogram histogram;
  for (const std::uint64_t value : values) histogram.record(value);
  return histogram;
}

TEST(HistogramTest, AnEmptyOneSaysNothing) {
  const Histogram empty;
  EXPECT_EQ(empty.count(), 0U);
  EXPECT_EQ(empty.sum(), 0U);
  EXPECT_EQ(empty.min(), 0U);
  EXPECT_EQ(empty.max(), 0U);
  EXPECT_EQ(empty.quantile(0.5), 0U);
  empty.for_each([](auto, auto, auto) { FAIL(); });
}

TEST(HistogramTest, SmallValuesAreExact) {
  for (std::uint64_t value = 0; value < 64; ++value) {
    EXPECT_EQ(histogram_of({value, value + 100}).quantile(0.5), value);
  }
}

TEST(HistogramTest, EveryQuantileIsWithinTheStatedError) {
  Dice dice;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> values(dice.between(1, 3000));
    for (std::uint64_t& value : values) value = some_value(dice);
    const Histogram histogram = histogram_of(values);
    std::ranges::sort(values);
    for (const double q : quantiles) {
      const auto truth = static_cast<double>(exact(values, q));
      EXPECT_NEAR(static_cast<double>(histogram.quantile(q)), truth, truth / 64) << "at " << q;
    }
    EXPECT_EQ(histogram.min(), values.front());
    EXPECT_EQ(histogram.max(), values.back());
    EXPECT_EQ(histogram.count(), values.size());
  }
}

TEST(HistogramTest, BucketsFollowEachOtherWithoutGapOrOverlap) {
  Histogram histogram;
  std::uint64_t next = 0;
  for (std::uint64_t value = 0; value < Histogram::limit;) {  // the lowest value of each bucket
    Histogram one;
    one.record(value);
    one.for_each([&](std::uint64_t lowest, std::uint64_t highest, std::uint64_t count) {
      EXPECT_EQ(lowest, next);
      EXPECT_EQ(count, 1U);
      next = highest + 1;
    });
    ASSERT_GT(next, value);
    value = next;
  }
  EXPECT_EQ(next, Histogram::limit);
}

TEST(HistogramTest, ValuesBeyondTheLimitAreClampedAndCounted) {
  Histogram histogram;
  histogram.record(Histogram::limit - 1);
  EXPECT_EQ(histogram.beyond(), 0U);
  histogram.record(Histogram::limit);
  histogram.record(std::uint64_t{1} << 50);
  EXPECT_EQ(histogram.beyond(), 2U);
  EXPECT_EQ(histogram.count(), 3U);
  EXPECT_EQ(histogram.max(), std::uint64_t{1} << 50);
  EXPECT_EQ(histogram.quantile(1), histogram.max());
  EXPECT_EQ(histogram.sum(), 2 * Histogram::limit - 1 + (std::uint64_t{1} << 50));
}

TEST(HistogramTest, MergingIsRecordingIntoOne) {
  Dice dice;
  Histogram first, second, both;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t value = some_value(dice);
    (dice.one_in(3) ? first : second).record(value);
    both.record(value);
  }
  first.merge(second);
  EXPECT_EQ(first, both);
  first.merge({});
  EXPECT_EQ(first, both);
}

TEST(HistogramTest, TheDifferenceIsWhatWasRecordedMeanwhile) {
  Dice dice;
  Histogram all, later;
  for (int i = 0; i < 1000; ++i) all.record(some_value(dice));
  const Histogram earlier = all;
  EXPECT_EQ(all.since(earlier).count(), 0U);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t value = some_value(dice);
    all.record(value);
    later.record(value);
  }
  const Histogram difference = all.since(earlier);
  EXPECT_EQ(difference.count(), later.count());
  EXPECT_EQ(difference.sum(), later.sum());
  for (const double q : quantiles) {
    const auto truth = static_cast<double>(later.quantile(q));
    EXPECT_NEAR(static_cast<double>(difference.quantile(q)), truth, truth / 32) << "at " << q;
  }
}

TEST(HistogramTest, ItsBucketsMakeItAgain) {
  Dice dice;
  Histogram original, again;
  for (int i = 0; i < 1000; ++i) original.record(some_value(dice) << dice.between(0, 4));
  original.for_each(
      [&](std::uint64_t lowest, std::uint64_t, std::uint64_t count) { again.record(lowest, count); });
  again.set_exact(original.sum(), original.min(), original.max(), original.beyond());
  EXPECT_EQ(again, original);
}

TEST(HistogramTest, RecordingSeveralTimesAtOnceIsTheSame) {
  Histogram once, again;
  once.record(777, 3);
  for (int i = 0; i < 3; ++i) again.record(777);
  EXPECT_EQ(once, again);
}

}  // namespace
}  // namespace verbena::test
