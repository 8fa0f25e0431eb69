// SPDX-License-Identifier: Apache-2.0
// What becomes of a registration when its memory changes.
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "core/cache_fixture.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

class MemoryChangeTest : public RegistrationCacheTest {
 protected:
  void SetUp() override {
    RegistrationCacheTest::SetUp();
    if (IsSkipped()) return;
    cache_ = &make({.joined = 0, .removal_delay = 0});
    for (std::size_t i = 0; i < 8; ++i)
      keys_.push_back(cache_->acquire(memory_.at(2 * i), page, local).lkey());
  }
  /// Which of the registered pages 0, 2 … 14 are hits with what was registered first.
  std::vector<std::size_t> kept() {
    std::vector<std::size_t> pages;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      std::error_code error;
      const Pin pin = cache_->acquire_early(memory_.at(2 * i), 1, local, error);
      if (pin && pin.lkey() == keys_[i]) pages.push_back(2 * i);
    }
    return pages;
  }
  RegistrationCache& cache() { return *cache_; }
  Mapping& memory() { return memory_; }

 private:
  Mapping memory_{16};
  RegistrationCache* cache_ = nullptr;
  std::vector<std::uint32_t> keys_;
};

TEST_F(MemoryChangeTest, NothingIsForgottenWithoutAChange) {
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 4, 6, 8, 10, 12, 14}));
  EXPECT_EQ(cache().counters().invalidations, 0U);
}

TEST_F(MemoryChangeTest, Munmap) {
  munmap(memory().at(3), 4 * page);
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 8, 10, 12, 14}));
  EXPECT_EQ(cache().counters().invalidations, 2U);
}

TEST_F(MemoryChangeTest, MapOver) {
  ASSERT_NE(
      mmap(memory().at(4), page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
      MAP_FAILED);
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 6, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, MadviseDontneed) {
  madvise(memory().at(4), page, MADV_DONTNEED);
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 6, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, MadviseFree) {
  madvise(memory().at(4), page, MADV_FREE);
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 6, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, MremapMovesAway) {
  const Mapping place{1};
  ASSERT_EQ(mremap(memory().at(4), page, page, MREMAP_MAYMOVE | MREMAP_FIXED, place.at(0)), place.at(0));
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 6, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, MremapLeavesAnEmptyPlaceBehind) {
  const Mapping place{1};
  ASSERT_EQ(mremap(memory().at(4), page, page, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, place.at(0)),
            place.at(0));
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 6, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, MremapComesOver) {
  const Mapping other{1};
  ASSERT_EQ(mremap(other.at(0), page, page, MREMAP_MAYMOVE | MREMAP_FIXED, memory().at(4)), memory().at(4));
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 6, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, MovedMemoryIsWatchedAtItsNewPlace) {
  const Mapping place{1};
  ASSERT_EQ(mremap(memory().at(4), page, page, MREMAP_MAYMOVE | MREMAP_FIXED, place.at(0)), place.at(0));
  const std::uint32_t key = cache().acquire(place.at(0), page, local).lkey();
  madvise(place.at(0), page, MADV_DONTNEED);
  EXPECT_NE(cache().acquire(place.at(0), page, local).lkey(), key);
}

TEST_F(MemoryChangeTest, MremapShrinks) {
  ASSERT_NE(mremap(memory().at(8), 8 * page, 3 * page, 0), MAP_FAILED);
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 4, 6, 8, 10}));
}

TEST_F(MemoryChangeTest, TheUsersWord) {
  cache().forget(memory().at(5), 2 * page);
  EXPECT_EQ(kept(), (std::vector<std::size_t>{0, 2, 4, 8, 10, 12, 14}));
}

TEST_F(MemoryChangeTest, WhatMayStayStays) {
  mprotect(memory().at(0), 16 * page, PROT_READ);
  mprotect(memory().at(0), 16 * page, PROT_READ | PROT_WRITE);
  madvise(memory().at(0), 16 * page, MADV_COLD);
  std::memset(memory().at(0), 1, 16 * page);
  const pid_t child = fork();
  if (child == 0) {
    munmap(memory().at(0), 16 * page);  // its own copy, which nobody watches
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(kept().size(), 8U);
}

TEST_F(RegistrationCacheTest, TheBreakMovesBack) {
  RegistrationCache& cache = make();
  auto* const begin = static_cast<std::byte*>(sbrk(0));
  const std::size_t to_page = page - reinterpret_cast<std::uintptr_t>(begin) % page;
  ASSERT_NE(sbrk(static_cast<std::intptr_t>(to_page + 4 * page)), reinterpret_cast<void*>(-1));
  const std::uint32_t key = cache.acquire(begin + to_page, 4 * page, local).lkey();
  ASSERT_EQ(brk(begin), 0);
  ASSERT_NE(sbrk(static_cast<std::intptr_t>(to_page + 4 * page)), reinterpret_cast<void*>(-1));
  EXPECT_NE(cache.acquire(begin + to_page, 4 * page, local).lkey(), key);
  EXPECT_EQ(cache.counters().invalidations, 1U);
  brk(begin);
}

TEST_F(RegistrationCacheTest, SharedMemoryFilesAreWatched) {
  RegistrationCache& cache = make({.joined = 0, .removal_delay = 0});
  const int fd = memfd_create("test", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(4 * page)), 0);
  Mapping memory{4, MAP_SHARED, fd};
  std::uint32_t key = cache.acquire(memory.at(0), page, local).lkey();
  EXPECT_EQ(cache.acquire(memory.at(0), page, local).lkey(), key);
  madvise(memory.at(0), page, MADV_REMOVE);
  EXPECT_NE(cache.acquire(memory.at(0), page, local).lkey(), key);
  key = cache.acquire(memory.at(0), page, local).lkey();
  memory.unmap();
  memory.map_again();
  EXPECT_NE(cache.acquire(memory.at(0), page, local).lkey(), key);
  EXPECT_EQ(cache.counters().unwatched, 0U);
  close(fd);
}

TEST_F(RegistrationCacheTest, WhatIsHeldStaysRegisteredUntilItIsReleased) {
  RegistrationCache& cache = make();
  Mapping memory{1};
  Pin first = cache.acquire(memory.at(0), 1, local);
  Pin second = cache.acquire(memory.at(0), 1, local);
  memory.unmap();
  EXPECT_TRUE(cache.settle());
  EXPECT_FALSE(first.current());
  EXPECT_EQ(cache.counters().retired, 1U);
  EXPECT_EQ(cache.counters().entries, 0U);
  first.release();
  EXPECT_EQ(registrar().live(), 1U);
  EXPECT_EQ(cache.counters().pinned_bytes, page);
  second.release();
  EXPECT_EQ(registrar().live(), 0U);
  EXPECT_EQ(cache.counters().pinned_bytes, 0U);
}

TEST_F(RegistrationCacheTest, WhatNobodyHoldsIsDeregisteredWithTheNextRelease) {
  RegistrationCache& cache = make();
  Mapping memory{1};
  const Mapping other{1};
  Pin pin = cache.acquire(other.at(0), 1, local);
  cache.acquire(memory.at(0), 1, local);
  memory.unmap();
  EXPECT_TRUE(cache.settle());
  EXPECT_EQ(registrar().live(), 2U);  // the monitor may not deregister
  pin.release();
  EXPECT_EQ(registrar().live(), 1U);
}

TEST_F(RegistrationCacheTest, MemoryThatIsBeingEmptiedIsNotKeptForAWhile) {
  RegistrationCache& cache = make({.joined = 0, .removal_delay = 3'600'000'000'000});
  const Mapping memory{2};
  cache.acquire(memory.at(0), 2 * page, local);
  madvise(memory.at(0), page, MADV_DONTNEED);
  const Pin pin = cache.acquire(memory.at(0), page, local);
  EXPECT_TRUE(pin.current());
  EXPECT_EQ(cache.counters().one_use, 1U);
  EXPECT_EQ(cache.counters().entries, 0U);
  cache.acquire(memory.at(1), page, local);  // its neighbour is
  EXPECT_EQ(cache.counters().entries, 1U);
}

TEST_F(RegistrationCacheTest, TwoCachesShareOneWatcher) {
  RegistrationCache& cache = make();
  FakeRegistrar other_registrar;
  RegistrationCache other{other_registrar, watcher(), {.entries = 1, .joined = 0}};
  Mapping memory{4};
  cache.acquire(memory.at(0), page, local);
  other.acquire(memory.at(0), page, local);
  other.acquire(memory.at(2), page,
                local);  // the first is evicted, but the first cache still needs it watched
  EXPECT_EQ(other.counters().evictions, 1U);
  memory.unmap();
  EXPECT_TRUE(cache.settle());
  EXPECT_EQ(cache.counters().invalidations, 1U);
  EXPECT_EQ(other.counters().invalidations, 1U);
}

TEST_F(RegistrationCacheTest, ADriverMayUnmapWatchedMemoryInEveryCall) {
  RegistrationCache& cache = make();
  const Mapping memory{2};
  std::vector<std::unique_ptr<Mapping>> watched;
  for (int i = 0; i < 4; ++i) {
    watched.push_back(std::make_unique<Mapping>(1));
    cache.acquire(watched.back()->at(0), page, local);
  }
  const auto unmap_one = [&] {
    if (!watched.empty()) watched.pop_back();
  };
  registrar().before_add = [&](core::AddressRange) { unmap_one(); };
  registrar().before_remove = unmap_one;
  cache.acquire(memory.at(0), page, local);
  cache.acquire(memory.at(1), page, local);
  EXPECT_TRUE(watched.empty());
  EXPECT_TRUE(cache.settle());
  EXPECT_EQ(cache.counters().invalidations, 4U);
  registrar().before_add = nullptr;
  registrar().before_remove = nullptr;
}

TEST_F(RegistrationCacheTest, MemoryThatChangesWhileItIsRegisteredIsRegisteredAnew) {
  RegistrationCache& cache = make();
  Mapping memory{1};
  int calls = 0;
  registrar().before_add = [&](core::AddressRange) {
    if (calls++ == 0) return;
    if (calls > 2) return;
    memory.unmap();
    memory.map_again();
  };
  const Mapping other{1};
  cache.acquire(other.at(0), 1, local);
  const Pin pin = cache.acquire(memory.at(0), page, local);
  registrar().before_add = nullptr;
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(pin.current());
  EXPECT_EQ(registrar().live(), 2U);
}

}  // namespace
}  // namespace verbena::test
