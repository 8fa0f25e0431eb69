// SPDX-License-Identifier: Apache-2.0
// What a lookup finds, and what it registers.
#include <thread>
#include <vector>

#include "core/cache/device_registrar.h"
#include "core/cache_fixture.h"
#include "core/handle.h"
#include "support/seed.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

TEST_F(RegistrationCacheTest, AMissRegistersWholePagesAndAHitRegistersNothing) {
  RegistrationCache& cache = make();
  const Mapping memory{4};
  {
    const Pin first = cache.acquire(memory.at(1) + 100, 10, local);
    EXPECT_EQ(first.range(), pages_of(memory, 1, 1));
    const Pin second = cache.acquire(memory.at(1), page, local);
    EXPECT_EQ(second.lkey(), first.lkey());
    EXPECT_EQ(second.rkey(), first.rkey());
    EXPECT_TRUE(second.current());
  }
  EXPECT_EQ(registrar().added(), 1U);
  EXPECT_EQ(registrar().live(), 1U);  // kept, though nobody holds it
  const auto counters = cache.counters();
  EXPECT_EQ(counters.hits, 1U);
  EXPECT_EQ(counters.misses, 1U);
  EXPECT_EQ(counters.entries, 1U);
  EXPECT_EQ(counters.pinned_bytes, page);
}

TEST_F(RegistrationCacheTest, AnyPartOfALargeRegistrationIsAHit) {
  RegistrationCache& cache = make();
  const Mapping memory{4096};
  cache.acquire(memory.at(0), memory.size(), local);
  Dice dice;
  for (int i = 0; i < 2000; ++i) {
    const std::size_t first = dice.between(0, memory.size() - 1);
    const std::size_t length = dice.between(1, memory.size() - first);
    std::error_code error;
    const Pin pin = cache.acquire_early(memory.at(0) + first, length, local, error);
    ASSERT_TRUE(pin);
  }
  EXPECT_EQ(registrar().added(), 1U);
}

TEST_F(RegistrationCacheTest, APinMovesAndMayBeReleasedByAnotherThread) {
  RegistrationCache& cache = make();
  Mapping memory{1};
  Pin pin = cache.acquire(memory.at(0), 1, local);
  memory.unmap();
  cache.settle();
  std::thread{[taken = std::move(pin)]() mutable {
    Pin other;
    other = std::move(taken);
    EXPECT_FALSE(taken);  // NOLINT(bugprone-use-after-move): what is left of it is the question
    EXPECT_TRUE(other);
  }}.join();
  EXPECT_FALSE(pin);  // NOLINT(bugprone-use-after-move): as above
  EXPECT_EQ(registrar().live(), 0U);
}

TEST_F(RegistrationCacheTest, OverlappingRangesBecomeOneRegistration) {
  RegistrationCache& cache = make();
  const Mapping memory{8};
  cache.acquire(memory.at(0), 3 * page, local);
  cache.acquire(memory.at(5), 3 * page, local);
  const Pin pin = cache.acquire(memory.at(2), 4 * page, local);
  EXPECT_EQ(pin.range(), pages_of(memory, 0, 8));
  EXPECT_EQ(registrar().live(), 1U);
  EXPECT_EQ(cache.counters().joins, 2U);
  EXPECT_EQ(cache.counters().kept_bytes, 8 * page);
}

TEST_F(RegistrationCacheTest, NeighboursAreJoinedUntilTheyAreLongerThanTheNewOne) {
  RegistrationCache& cache = make({.joined = 8 * page});
  const Mapping memory{64};
  for (std::size_t i = 0; i < 64; ++i) cache.acquire(memory.at(i), page, local);
  // As a binary counter does it: each page was registered at most once a doubling, up to the bound.
  EXPECT_EQ(cache.counters().entries, 8U);
  EXPECT_EQ(registrar().added(), 64U);
  EXPECT_EQ(registrar().live(), 8U);
  for (std::size_t i = 0; i < 64; ++i) cache.acquire(memory.at(i), page, local);
  EXPECT_EQ(registrar().added(), 64U);
}

TEST_F(RegistrationCacheTest, MoreRightsAreRegisteredTogetherWithTheOldOnes) {
  RegistrationCache& cache = make();
  const Mapping memory{1};
  const Pin before = cache.acquire(memory.at(0), page, local);
  const Pin after = cache.acquire(memory.at(0), page, remote);
  EXPECT_EQ(after.access(), local | remote);
  EXPECT_NE(after.lkey(), before.lkey());
  EXPECT_EQ(registrar().live(), 2U);  // whoever holds the old one may go on
  EXPECT_FALSE(before.current());
  EXPECT_EQ(cache.acquire(memory.at(0), page, local).lkey(), after.lkey());
}

TEST_F(RegistrationCacheTest, NeighboursThatCantBeRegisteredTogetherAreLeftAlone) {
  RegistrationCache& cache = make({.joined = 64 * page});
  const Mapping memory{2};
  const Pin before = cache.acquire(memory.at(0), page, local);
  registrar().refuse = [](core::AddressRange range, int) { return range.size() > page ? EFAULT : 0; };
  const Pin after = cache.acquire(memory.at(1), page, remote);
  EXPECT_EQ(after.range(), pages_of(memory, 1, 1));
  EXPECT_EQ(after.access(), remote);
  EXPECT_TRUE(before.current());
  EXPECT_EQ(cache.counters().entries, 2U);
}

TEST_F(RegistrationCacheTest, RegistersWithADevice) {
  const auto device = core::open_device("soft0");
  const core::Handle<ibv_pd> pd{*device, device->alloc_pd()};
  core::DeviceRegistrar registrar{*device, pd.get()};
  EXPECT_FALSE(registrar.pins());
  RegistrationCache cache{registrar, watcher()};
  const Mapping memory{4};
  const Pin pin = cache.acquire(memory.at(0), 4 * page, IBV_ACCESS_LOCAL_WRITE);
  EXPECT_NE(pin.lkey(), 0U);
  EXPECT_EQ(cache.acquire(memory.at(1), page, IBV_ACCESS_LOCAL_WRITE).lkey(), pin.lkey());
}

TEST_F(RegistrationCacheTest, WhateverIsAskedForInWhateverOrderIsCoveredByWhatIsThere) {
  Dice dice;
  RegistrationCache& cache =
      make({.bytes = 40 * page, .entries = 12, .joined = 8 * page, .removal_delay = 0});
  registrar().limit_bytes = 200 * page;
  constexpr std::size_t pages = 64;
  Mapping memory{pages};
  std::vector<std::uint64_t> identities(pages, 0);
  std::uint64_t next_identity = 1;
  const auto stamp = [&](std::size_t which) {
    identities[which] = next_identity++;
    std::memcpy(memory.at(which), &identities[which], sizeof(std::uint64_t));
  };
  for (std::size_t i = 0; i < pages; ++i) stamp(i);
  std::vector<std::pair<Pin, std::vector<std::uint64_t>>> held;
  for (int step = 0; step < 5000; ++step) {
    const std::size_t first = dice.between(0, pages - 1);
    const std::size_t count = dice.between(1, std::min<std::size_t>(8, pages - first));
    if (dice.one_in(8)) {
      if (dice.one_in(2)) {
        madvise(memory.at(first), count * page, MADV_DONTNEED);
      } else {
        ASSERT_NE(mmap(memory.at(first), count * page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                  MAP_FAILED);
      }
      for (std::size_t i = first; i < first + count; ++i) stamp(i);
      continue;
    }
    const int access = static_cast<int>(dice.between(1, 7));
    Pin pin = cache.acquire(memory.at(first), count * page, access);
    ASSERT_EQ(access & ~pin.access(), 0);
    ASSERT_TRUE(pin.range().covers(pages_of(memory, first, count)));
    for (std::size_t i = first; i < first + count; ++i) {
      ASSERT_EQ(registrar().transfer(pin.lkey(), memory.at(i)), identities[i]) << "step " << step;
    }
    ASSERT_LE(cache.counters().entries, 12U);
    ASSERT_LE(cache.counters().kept_bytes, 40 * page);
    ASSERT_EQ(cache.counters().pinned_bytes, registrar().live_bytes());
    if (dice.one_in(4) && held.size() < 8) held.emplace_back(std::move(pin), identities);
    if (dice.one_in(4) && !held.empty()) {
      const std::size_t which = dice.between(0, held.size() - 1);
      // What was pinned is what a transfer still meets, whatever has become of the memory.
      const auto& [pinned, then] = held[which];
      const std::size_t at = (pinned.range().begin - pages_of(memory, 0, 1).begin) / page;
      ASSERT_TRUE(registrar().transfer(pinned.lkey(), memory.at(at)).has_value());
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
}

}  // namespace
}  // namespace verbena::test
