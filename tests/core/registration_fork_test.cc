// SPDX-License-Identifier: Apache-2.0
// The registration cache of a process that forks: the parent's goes on, the child's says whose it is.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <optional>
#include <system_error>

#include "core/cache/registration_cache.h"
#include "core/fake_registrar.h"
#include "support/forked.h"
#include "verbena/error.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::process_watcher;
using core::RegistrationCache;

const std::size_t page = core::page_size();
constexpr int local = 1;

std::byte* map_pages(std::size_t count, void* where = nullptr) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (where != nullptr ? MAP_FIXED : 0);
  void* const memory = mmap(where, count * page, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  std::memset(memory, 1, count * page);
  return static_cast<std::byte*>(memory);
}

class RegistrationForkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!process_watcher().works()) GTEST_SKIP() << process_watcher().why_not();
    cache.emplace(device, process_watcher());
  }
  void TearDown() override { munmap(memory, 8 * page); }

  FakeRegistrar device;
  std::optional<RegistrationCache> cache;
  std::byte* memory = map_pages(8);
};

TEST_F(RegistrationForkTest, AHitInTheChildIsNone) {
  const Pin pin = cache->acquire(memory, page, local);
  Forked child{[&] {
    std::error_code error;
    require(!cache->acquire(memory, page, local, error) && error == errc::other_process,
            "what the parent has registered is refused");
    error.clear();
    require(!cache->acquire_early(memory, page, local, error) && error == errc::other_process,
            "it is refused unconfirmed, too");
    error.clear();
    require(!cache->acquire(memory + page, page, local, error) && error == errc::other_process,
            "nothing is registered");
    try {
      cache->acquire(memory, page, local);
      require(false, "it throws");
    } catch (const Error& thrown) {
      require(thrown.code() == errc::other_process, "it throws what it says");
    }
  }};
  EXPECT_EQ(child.join(), 0);
  EXPECT_EQ(cache->acquire(memory, page, local).lkey(), pin.lkey()) << "the parent's still hits";
}

TEST_F(RegistrationForkTest, TheChildMayLetGoOfAllAndTheParentsStays) {
  std::optional<Pin> pin{cache->acquire(memory, page, local)};
  std::size_t removed = 0;
  device.before_remove = [&] { ++removed; };
  Forked child{[&] {
    cache->forget(memory, page);
    pin.reset();
    cache.reset();
    require(removed == 0, "nothing is taken back from the device");
  }};
  EXPECT_EQ(child.join(), 0);
  EXPECT_TRUE(pin->current());
  EXPECT_EQ(device.live(), 1U);
  device.before_remove = nullptr;  // its count is this function's
}

TEST_F(RegistrationForkTest, WhatTheChildUnmapsStaysTheParents) {
  const std::uint32_t key = cache->acquire(memory, 8 * page, local).lkey();
  Forked child{[&] { munmap(memory, 8 * page); }};
  EXPECT_EQ(child.join(), 0);
  EXPECT_EQ(cache->acquire(memory, 8 * page, local).lkey(), key);
  EXPECT_EQ(cache->counters().invalidations, 0U);
}

TEST_F(RegistrationForkTest, TheParentsChangesAreStillTold) {
  const std::uint32_t key = cache->acquire(memory, page, local).lkey();
  Forked child{[&] { std::memset(memory, 2, page); }};
  map_pages(1, memory);
  EXPECT_NE(cache->acquire(memory, page, local).lkey(), key) << "while the child lives";
  EXPECT_EQ(child.join(), 0);
}

TEST_F(RegistrationForkTest, AChildsOwnCacheWatchesTheChildsMemory) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer allows no threads in the child of a process with several";
#endif
  const MemoryWatcher* const parents = &process_watcher();
  Forked child{[&] {
    MemoryWatcher& watcher = process_watcher();
    require(&watcher != parents && &watcher == &process_watcher(), "the child has one watcher of its own");
    require(watcher.works(), "it works");
    FakeRegistrar own_device;
    RegistrationCache own{own_device, watcher};
    const std::uint32_t key = own.acquire(memory, page, local).lkey();
    require(own.acquire(memory, page, local).lkey() == key, "the child's cache hits");
    map_pages(1, memory);
    require(own.acquire(memory, page, local).lkey() != key, "it hears of the child's changes");
  }};
  EXPECT_EQ(child.join(), 0);
  EXPECT_EQ(&process_watcher(), parents);
}

TEST_F(RegistrationForkTest, ManyChildrenLeaveNothingBehind) {
  for (int round = 0; round < 50; ++round) {
    const Pin pin = cache->acquire(memory, 8 * page, local);
    Forked child{[] {}};
    map_pages(8, memory);
    ASSERT_TRUE(cache->settle());
    EXPECT_FALSE(pin.current());
    ASSERT_EQ(child.join(), 0);
  }
  EXPECT_EQ(cache->counters().invalidations, 50U);
}

}  // namespace
}  // namespace verbena::test
