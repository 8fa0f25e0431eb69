// SPDX-License-Identifier: Apache-2.0
#include "core/buddy_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "support/seed.h"

namespace verbena::test {
namespace {

using core::BuddyAllocator;

constexpr std::size_t kib = 1024;

std::size_t rounded(std::size_t length) {
  return std::bit_ceil(std::max(length, BuddyAllocator::smallest));
}

TEST(BuddyAllocatorTest, GivesEachByteOnceAndThenNone) {
  BuddyAllocator blocks{4 * kib};
  std::set<std::size_t> offsets;
  while (const auto offset = blocks.take(64)) offsets.insert(*offset);
  EXPECT_EQ(offsets.size(), 64U);
  EXPECT_EQ(*offsets.rbegin(), 4 * kib - 64);
  EXPECT_EQ(blocks.in_use(), 4 * kib);
  EXPECT_FALSE(blocks.take(1));
}

TEST(BuddyAllocatorTest, ABlockIsItsLengthRoundedUpToAPowerOfTwo) {
  BuddyAllocator blocks{64 * kib};
  for (const auto& [length, size] : std::map<std::size_t, std::size_t>{
           {0, 64}, {1, 64}, {64, 64}, {65, 128}, {128, 128}, {129, 256}, {5000, 8192}, {16384, 16384}}) {
    const std::size_t before = blocks.in_use();
    ASSERT_TRUE(blocks.take(length)) << length;
    EXPECT_EQ(blocks.in_use() - before, size) << length;
  }
}

TEST(BuddyAllocatorTest, ABlockBeginsAtAMultipleOfItsSize) {
  BuddyAllocator blocks{1024 * kib};
  Dice dice;
  for (int i = 0; i < 200; ++i) {
    const std::size_t length = dice.between(1, 4000);
    const auto offset = blocks.take(length);
    ASSERT_TRUE(offset);
    EXPECT_EQ(*offset % rounded(length), 0U);
  }
}

TEST(BuddyAllocatorTest, WhatHasComeBackIsJoinedWhereALargerBlockIsWanted) {
  BuddyAllocator blocks{64 * kib};
  std::vector<std::size_t> small;
  while (const auto offset = blocks.take(64)) small.push_back(*offset);
  EXPECT_FALSE(blocks.take(64 * kib));
  Dice dice;
  while (!small.empty()) {
    const std::size_t which = dice.between(0, small.size() - 1);
    blocks.give(std::exchange(small[which], small.back()));
    small.pop_back();
  }
  EXPECT_EQ(blocks.in_use(), 0U);
  EXPECT_TRUE(blocks.take(64 * kib));
}

TEST(BuddyAllocatorTest, NeighboursOfABlockThatIsOutAreNotJoinedWithIt) {
  BuddyAllocator blocks{1 * kib};
  std::vector<std::size_t> all;
  while (const auto offset = blocks.take(64)) all.push_back(*offset);
  for (const std::size_t offset : all) {
    if (offset != 512) blocks.give(offset);
  }
  EXPECT_TRUE(blocks.take(512)) << "the lower half";
  EXPECT_FALSE(blocks.take(512)) << "one block of the upper half is out";
  EXPECT_TRUE(blocks.take(256)) << "three quarters of the upper half are free";
}

TEST(BuddyAllocatorTest, AnyLengthOfARangeIsUsedToTheLastBlock) {
  Dice dice;
  for (int round = 0; round < 50; ++round) {
    const std::size_t bytes = dice.between(0, 100 * kib);
    BuddyAllocator blocks{bytes};
    std::size_t count = 0;
    while (blocks.take(64)) ++count;
    EXPECT_EQ(count, bytes / 64);
  }
}

TEST(BuddyAllocatorTest, WhatIsLongerThanTheRangeIsRefused) {
  BuddyAllocator blocks{4 * kib};
  EXPECT_FALSE(blocks.take(4 * kib + 1));
  EXPECT_FALSE(blocks.take(~std::size_t{0}));
  EXPECT_TRUE(blocks.take(4 * kib));
}

TEST(BuddyAllocatorTest, NoTwoBlocksOverlapWhateverIsTakenAndGiven) {
  Dice dice;
  const std::size_t bytes = 128 * kib;
  BuddyAllocator blocks{bytes};
  std::map<std::size_t, std::size_t> out;  // offset → end
  std::size_t used = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (out.empty() || dice.between(0, 99) < 55) {
      const std::size_t length = dice.one_in(10) ? dice.between(1, 20 * kib) : dice.between(1, 300);
      const auto offset = blocks.take(length);
      if (!offset) continue;
      const std::size_t end = *offset + rounded(length);
      ASSERT_LE(end, bytes);
      const auto after = out.lower_bound(*offset);
      ASSERT_TRUE(after == out.end() || after->first >= end);
      ASSERT_TRUE(after == out.begin() || std::prev(after)->second <= *offset);
      out.emplace(*offset, end);
      used += rounded(length);
    } else {
      const auto chosen =
          std::next(out.begin(), static_cast<std::ptrdiff_t>(dice.between(0, out.size() - 1)));
      used -= chosen->second - chosen->first;
      blocks.give(chosen->first);
      out.erase(chosen);
    }
    ASSERT_EQ(blocks.in_use(), used);
  }
  for (const auto& [offset, end] : out) blocks.give(offset);
  EXPECT_TRUE(blocks.take(bytes)) << "all of it is one block again";
}

TEST(BuddyAllocatorTest, OtherThreadsMayGiveBackWhileOneTakes) {
  constexpr std::size_t rounds = 20'000;
  constexpr std::size_t givers = 3;
  BuddyAllocator blocks{256 * kib};
  // A box for each giver: 0 is empty, else an offset + 1.
  std::array<std::atomic<std::size_t>, givers> boxes{};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (auto& box : boxes) {
    threads.emplace_back([&] {
      while (!over.load()) {
        if (const std::size_t in_box = box.exchange(0)) {
          blocks.give(in_box - 1);
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  Dice dice;
  std::size_t taken = 0;
  while (taken < rounds) {
    auto& box = boxes[dice.between(0, givers - 1)];
    const auto offset = blocks.take(dice.between(1, 2000));
    ASSERT_TRUE(offset) << "four blocks at most are out";
    ++taken;
    std::size_t empty = 0;
    if (!box.compare_exchange_strong(empty, *offset + 1)) blocks.give(*offset);
  }
  over.store(true);
  for (std::thread& thread : threads) thread.join();
  for (auto& box : boxes) {
    if (const std::size_t in_box = box.exchange(0)) blocks.give(in_box - 1);
  }
  EXPECT_EQ(blocks.in_use(), 0U);
  EXPECT_TRUE(blocks.take(256 * kib));
}

}  // namespace
}  // namespace verbena::test
