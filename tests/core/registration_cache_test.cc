// SPDX-License-Identifier: Apache-2.0
#include "core/cache/registration_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>
#include <vector>

#include "core/cache/device_registrar.h"
#include "core/fake_registrar.h"
#include "core/handle.h"
#include "support/child.h"
#include "support/patience.h"
#include "support/seed.h"
#include "verbena/error.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

constexpr int local = 1;
constexpr int remote = 4;
const std::size_t page = core::page_size();

/// A mapping, until it is unmapped.
class Mapping {
 public:
  explicit Mapping(std::size_t pages, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1)
      : size_(pages * page), data_(mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, fd, 0)) {
    if (data_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  }
  ~Mapping() { unmap(); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* at(std::size_t which) const { return static_cast<std::byte*>(data_) + which * page; }
  std::size_t size() const { return size_; }
  void unmap() {
    if (std::exchange(mapped_, false)) munmap(data_, size_);
  }
  /// Maps anew at the same place.
  void map_again() {
    ASSERT_EQ(mmap(data_, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              data_);
    mapped_ = true;
  }

 private:
  std::size_t size_;
  void* data_;
  bool mapped_ = true;
};

core::AddressRange pages_of(const Mapping& memory, std::size_t first, std::size_t count) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.at(first));
  return {begin, begin + count * page};
}

class RegistrationCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!watcher().works()) GTEST_SKIP() << watcher().why_not();
  }
  static MemoryWatcher& watcher() { return core::process_watcher(); }
  /// Without joining of neighbours, unless asked for.
  RegistrationCache& make(RegistrationCache::Options options = {.joined = 0}) {
    return cache_.emplace(registrar_, watcher(), options);
  }
  FakeRegistrar& registrar() { return registrar_; }

 private:
  FakeRegistrar registrar_;
  std::optional<RegistrationCache> cache_;
};

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

// What becomes of a registration when its memory changes.

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

// The windows of the protocol, held open.

/// Lets the monitor go on only when the test says so.
struct Gate {
  std::atomic<bool> reached{false};
  std::atomic<bool> open{false};
  static void wait(void* context) {
    auto& gate = *static_cast<Gate*>(context);
    gate.reached = true;
    wait_until("the gate to open", [&] { return gate.open.load(); });
  }
};

TEST_F(RegistrationCacheTest, AHitWhileEventsAreDealtWithWaits) {
  Gate gate;
  MemoryWatcher slow{{.before_telling = Gate::wait, .context = &gate}};
  RegistrationCache cache{registrar(), slow, {.joined = 0}};
  Mapping memory{1};
  const std::uint32_t key = cache.acquire(memory.at(0), page, local).lkey();
  memory.unmap();  // returns when the event has been read, though nothing has been told
  memory.map_again();
  wait_until("the monitor", [&] { return gate.reached.load(); });
  std::thread opener{[&] {
    EXPECT_TRUE(stays([&] { return slow.busy(); }, std::chrono::milliseconds{5}));
    gate.open = true;
  }};
  std::error_code error;
  const Pin pin = cache.acquire_early(memory.at(0), page, local, error);
  opener.join();
  ASSERT_TRUE(pin);
  EXPECT_NE(pin.lkey(), key);
}

TEST_F(RegistrationCacheTest, WithoutTheMarkSuchAHitWouldBeStale) {
  Gate gate;
  MemoryWatcher wrong{{.announces = false, .before_telling = Gate::wait, .context = &gate}};
  RegistrationCache cache{registrar(), wrong, {.joined = 0}};
  Mapping memory{1};
  const std::uint32_t key = cache.acquire(memory.at(0), page, local).lkey();
  memory.unmap();
  memory.map_again();
  std::error_code error;
  EXPECT_EQ(cache.acquire(memory.at(0), page, local, error).lkey(), key);
  gate.open = true;
}

TEST_F(RegistrationCacheTest, AConfirmedHitSeesAnUnmappingThatAnotherThreadHasNotFinished) {
  Gate gate;
  MemoryWatcher slow{{.before_announcing = Gate::wait, .context = &gate}};
  RegistrationCache cache{registrar(), slow, {.joined = 0}};
  Mapping memory{1};
  const std::uint32_t key = cache.acquire(memory.at(0), page, local).lkey();
  std::thread unmapping{[&] { memory.unmap(); }};
  wait_until("the monitor", [&] { return gate.reached.load(); });
  // The addresses are free, the event is unread, and this thread gets them.
  void* const again = mmap(memory.at(0), page, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  ASSERT_EQ(again, memory.at(0));
  std::error_code error;
  {
    const Pin early = cache.acquire_early(again, page, local, error);
    EXPECT_EQ(early.lkey(), key);  // which is why it has to be confirmed
    EXPECT_TRUE(early.current());
    std::thread opener{[&] { gate.open = true; }};
    opener.join();
    EXPECT_TRUE(cache.settle());
    EXPECT_FALSE(early.current());
  }
  EXPECT_NE(cache.acquire(again, page, local).lkey(), key);
  unmapping.join();
  munmap(again, page);
}

TEST_F(RegistrationCacheTest, WhereChangesNeverCeaseMemoryIsRegisteredForOneUse) {
  Gate gate;
  MemoryWatcher stuck{{.before_announcing = Gate::wait, .context = &gate}};
  RegistrationCache cache{registrar(), stuck, {.joined = 0}};
  Mapping changing{1};
  const Mapping memory{1};
  cache.acquire(changing.at(0), page, local);
  const std::uint32_t key = cache.acquire(memory.at(0), page, local).lkey();
  std::thread unmapping{[&] { changing.unmap(); }};
  wait_until("the monitor", [&] { return gate.reached.load(); });
  {
    const Pin pin = cache.acquire(memory.at(0), page, local);
    EXPECT_NE(pin.lkey(), key);
    EXPECT_TRUE(pin.current());
  }
  EXPECT_EQ(cache.counters().one_use, 1U);
  gate.open = true;
  unmapping.join();
}

// Bounds.

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

// Errors.

TEST_F(RegistrationCacheTest, TooLittleLockedMemoryIsAnErrorWithTheLimitAndTheRemedy) {
  RegistrationCache& cache = make();
  registrar().limit_bytes = page;
  const Mapping memory{4};
  const Pin held = cache.acquire(memory.at(0), page, local);
  try {
    cache.acquire(memory.at(2), page, local);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), errc::memlock_too_small);
    const std::string_view sentence = error.what();
    for (const char* part : {"fake0", "4096 bytes", "limit on locked memory", "ulimit -l"}) {
      EXPECT_NE(sentence.find(part), sentence.npos) << sentence;
    }
  }
  std::error_code code;
  EXPECT_FALSE(cache.acquire(memory.at(2), page, local, code));
  EXPECT_EQ(code, errc::memlock_too_small);
}

TEST_F(RegistrationCacheTest, UnmappedMemoryIsAnErrorAndLeavesNothingBehind) {
  RegistrationCache& cache = make();
  Mapping memory{4};
  memory.unmap();
  std::error_code error;
  EXPECT_FALSE(cache.acquire(memory.at(0), page, local, error));
  EXPECT_EQ(error, errc::invalid_argument);
  EXPECT_EQ(registrar().live(), 0U);
}

TEST_F(RegistrationCacheTest, NoBytesAndBytesBeyondTheAddressSpaceAreErrors) {
  RegistrationCache& cache = make();
  const Mapping memory{1};
  cache.acquire(memory.at(0), page, local);
  std::error_code error;
  EXPECT_FALSE(cache.acquire(memory.at(0), 0, local, error));
  EXPECT_EQ(error, errc::invalid_argument);
  EXPECT_FALSE(cache.acquire(memory.at(0), ~std::size_t{0}, local, error));
  EXPECT_EQ(error, errc::invalid_argument);
  EXPECT_FALSE(cache.acquire_early(memory.at(0), ~std::size_t{0} - 100, local, error));
  EXPECT_EQ(error, errc::invalid_argument);
}

// Memory that can't be watched.

TEST_F(RegistrationCacheTest, MappingsOfFilesAreRegisteredForEachUseAndThatIsSaidOnce) {
  RegistrationCache& cache = make();
  const int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(page)) != 0) GTEST_SKIP() << "no file to map here";
  {
    const Mapping memory{1, MAP_SHARED, fd};
    testing::internal::CaptureStderr();
    const std::uint32_t first = cache.acquire(memory.at(0), page, local).lkey();
    const Pin pin = cache.acquire(memory.at(0), page, local);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(pin.lkey(), first);
    EXPECT_EQ(registrar().live(), 1U);
    EXPECT_EQ(cache.counters().unwatched, 2U);
    EXPECT_EQ(cache.counters().entries, 0U);
    EXPECT_NE(said.find("can't be watched"), said.npos) << said;
    EXPECT_EQ(said.find("verbena"), said.rfind("verbena")) << "said more than once";
  }
  close(fd);
}

/// userfaultfd(2) answers EPERM from now on.
void forbid_userfaultfd() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the system call's number
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw std::system_error(errno, std::generic_category(), "seccomp");
  }
}

const Role forbidden{"cache without userfaultfd", [](Line& parent) {
                       forbid_userfaultfd();
                       FakeRegistrar registrar;
                       RegistrationCache cache{registrar, core::process_watcher()};
                       Mapping memory{1};
                       bool right = !core::process_watcher().works();
                       testing::internal::CaptureStderr();
                       for (std::uint64_t round = 1; round < 100; ++round) {
                         std::memcpy(memory.at(0), &round, sizeof round);
                         std::error_code error;
                         const Pin pin = cache.acquire(memory.at(0), page, local, error);
                         right = right && pin && registrar.transfer(pin.lkey(), memory.at(0)) == round;
                         right = right && registrar.live() == 1 && pin.current() && cache.settle();
                         memory.unmap();
                         memory.map_again();
                       }
                       const std::string said = testing::internal::GetCapturedStderr();
                       right = right && said.find("seccomp") != said.npos;
                       right = right && said.find("verbena") == said.rfind("verbena");
                       right = right && cache.counters().unwatched == 99 && registrar.live() == 0;
                       parent.put(right);
                     }};

TEST(RegistrationCacheWithoutUserfaultfdTest, IsRightAndSlowerAndSaysSoOnce) {
  Child child{"cache without userfaultfd"};
  EXPECT_TRUE(child.line().get<bool>());
  EXPECT_EQ(child.join(), 0);
}

// Proof mode.

class ProofTest : public RegistrationCacheTest {
 protected:
  void SetUp() override {
    RegistrationCacheTest::SetUp();
    setenv("VERBENA_CHECK_REGISTRATIONS", "1", 1);
  }
  void TearDown() override { unsetenv("VERBENA_CHECK_REGISTRATIONS"); }
};

TEST_F(ProofTest, ARightCacheHasNothingToProve) {
  RegistrationCache& cache = make({.removal_delay = 0});
  Mapping memory{16};
  Dice dice;
  for (int i = 0; i < 300; ++i) {
    const std::size_t first = dice.between(0, 15);
    EXPECT_TRUE(cache.acquire(memory.at(first), dice.between(1, 16 - first) * page, local));
    if (dice.one_in(20)) madvise(memory.at(first), page, MADV_DONTNEED);
    if (dice.one_in(20)) {
      memory.unmap();
      memory.map_again();
    }
  }
  EXPECT_GT(cache.counters().hits, 0U);
}

TEST_F(ProofTest, AStaleHitStopsTheProcessWithBothStacks) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto go_wrong = [] {
    FakeRegistrar other;
    MemoryWatcher deaf{{.tells = false}};
    RegistrationCache cache{other, deaf, {.joined = 0}};
    Mapping memory{1};
    cache.acquire(memory.at(0), page, local);
    memory.unmap();
    memory.map_again();
    cache.acquire(memory.at(0), page, local);
  };
  EXPECT_DEATH(go_wrong(), "registered here(.|\n)*found here");
}

// On a device.

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

// Properties.

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
