// SPDX-License-Identifier: Apache-2.0
// How much is kept, and what goes first.
#include <vector>

#include "core/cache_fixture.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

TEST_F(RegistrationCacheTest, TheLeastRecentlyUsedGoesFirst) {
  RegistrationCache& cache = make({.entries = 3, .joined = 0});
  const Mapping memory{16};
  std::vector<std::uint32_t> keys;
  const auto use = [&](std::size_t which) { return cache.acquire(memory.at(2 * which), page, local).lkey(); };
  for (std::size_t i = 0; i < 3; ++i) keys.push_back(use(i));
  EXPECT_EQ(use(0), keys[0]);
  keys.push_back(use(3));  // instead of 1
  EXPECT_EQ(use(2), keys[2]);
  EXPECT_EQ(use(0), keys[0]);
  use(4);  // instead of 3
  EXPECT_EQ(use(0), keys[0]);
  EXPECT_EQ(use(2), keys[2]);
  EXPECT_NE(use(3), keys[3]);
  EXPECT_NE(use(1), keys[1]);
  EXPECT_EQ(cache.counters().entries, 3U);
  EXPECT_EQ(registrar().live(), 3U);
}

TEST_F(RegistrationCacheTest, BytesAreBounded) {
  RegistrationCache& cache = make({.bytes = 4 * page, .joined = 0});
  const Mapping memory{32};
  for (std::size_t i = 0; i < 32; i += 4) cache.acquire(memory.at(i), 2 * page, local);
  EXPECT_EQ(cache.counters().kept_bytes, 4 * page);
  EXPECT_EQ(registrar().live_bytes(), 4 * page);
  EXPECT_EQ(cache.counters().evictions, 6U);
}

TEST_F(RegistrationCacheTest, WhatIsLongerThanTheBoundIsRegisteredForOneUse) {
  RegistrationCache& cache = make({.bytes = 4 * page, .joined = 0});
  const Mapping memory{8};
  {
    const Pin pin = cache.acquire(memory.at(0), 8 * page, local);
    EXPECT_EQ(registrar().live_bytes(), 8 * page);
  }
  EXPECT_EQ(registrar().live(), 0U);
  EXPECT_EQ(cache.counters().one_use, 1U);
}

TEST_F(RegistrationCacheTest, WhatIsInUseIsNeverEvicted) {
  RegistrationCache& cache = make({.entries = 2, .joined = 0});
  const Mapping memory{8};
  const Pin first = cache.acquire(memory.at(0), page, local);
  const Pin second = cache.acquire(memory.at(2), page, local);
  const Pin third = cache.acquire(memory.at(4), page, local);
  EXPECT_EQ(cache.counters().evictions, 0U);
  EXPECT_EQ(cache.counters().one_use, 1U);
  EXPECT_TRUE(first.current() && second.current() && third.current());
}

TEST_F(RegistrationCacheTest, AtTheLimitOnLockedMemoryUnusedRegistrationsGo) {
  RegistrationCache& cache = make();
  registrar().limit_bytes = 4 * page;
  const Mapping memory{32};
  for (std::size_t i = 0; i < 32; i += 2) EXPECT_TRUE(cache.acquire(memory.at(i), page, local));
  EXPECT_EQ(registrar().live(), 4U);
  EXPECT_TRUE(cache.acquire(memory.at(0), 4 * page, local));
  EXPECT_EQ(registrar().live(), 1U);
}

TEST_F(RegistrationCacheTest, ManyEntriesComeAndGoInTheMemoryOfAFew) {
  RegistrationCache& cache = make({.entries = 50, .joined = 0});
  const Mapping memory{1000};
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = 0; i < 1000; i += 2) cache.acquire(memory.at(i), 1, local);
  }
  EXPECT_EQ(cache.counters().misses, 10'000U);
  EXPECT_EQ(registrar().live(), 50U);
}

}  // namespace
}  // namespace verbena::test
