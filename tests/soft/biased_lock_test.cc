// SPDX-License-Identifier: Apache-2.0
// The lock of completion queues: whoever holds it, holds it alone, however it was come by.
#include "core/soft/biased_lock.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace verbena::core::soft {
namespace {

/// What two at once would leave wrong.
struct Guarded {
  BiasedLock lock;
  std::uint64_t first = 0;
  std::uint64_t second = 0;

  void count() {
    const std::lock_guard guard(lock);
    count_locked();
  }
  void count_locked() {
    EXPECT_EQ(first, second);
    ++first;
    std::atomic_signal_fence(std::memory_order_seq_cst);  // two steps, with a gap for others to fall into
    ++second;
  }
};

constexpr int many = 200'000;

void own(Guarded& guarded) {
  for (int i = 0; i < 1000; ++i) guarded.count();  // longer than the streak that makes an owner
}

TEST(BiasedLockTest, AnOwnerAndNowAndThenOthersKeepTheCount) {
  Guarded guarded;
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> intrusions{0};
  own(guarded);
  std::thread intruder([&] {
    while (!over) {
      guarded.count();
      ++intrusions;
      for (int i = 0; i < 200; ++i) std::this_thread::yield();
    }
  });
  std::uint64_t own_counts = 1000;
  for (; own_counts < many || intrusions < 20; ++own_counts) guarded.count();
  over = true;
  intruder.join();
  EXPECT_EQ(guarded.first, own_counts + intrusions);
}

TEST(BiasedLockTest, WhereManyComeOftenTheCountIsKeptToo) {
  Guarded guarded;
  own(guarded);
  std::vector<std::thread> others;
  for (int t = 0; t < 3; ++t) {
    others.emplace_back([&] {
      for (int i = 0; i < many / 4; ++i) guarded.count();
    });
  }
  for (int i = 0; i < many; ++i) guarded.count();
  for (std::thread& other : others) other.join();
  EXPECT_EQ(guarded.first, 1000 + many + 3 * (many / 4));
}

TEST(BiasedLockTest, ThreadsThatTryNeverMeetWhoHoldsIt) {
  Guarded guarded;
  own(guarded);
  std::atomic<bool> over{false};
  std::uint64_t taken = 0;
  std::thread trier([&] {
    while (!over) {
      if (!guarded.lock.try_lock()) continue;
      guarded.count_locked();
      guarded.lock.unlock();
      ++taken;
    }
  });
  for (int i = 0; i < many; ++i) guarded.count();
  over = true;
  trier.join();
  EXPECT_EQ(guarded.first, 1000 + many + taken);
}

TEST(BiasedLockTest, TryingDoesNotWaitForTheOwner) {
  Guarded guarded;
  own(guarded);
  guarded.lock.lock();
  EXPECT_FALSE(guarded.lock.try_lock()) << "it isn't recursive";
  std::thread([&] { EXPECT_FALSE(guarded.lock.try_lock()); }).join();
  guarded.lock.unlock();
  std::thread([&] {
    EXPECT_TRUE(guarded.lock.try_lock());
    guarded.lock.unlock();
  }).join();
  guarded.count();
}

TEST(BiasedLockTest, AnotherThreadTakesOverWhereTheOwnerHasGone) {
  Guarded guarded;
  std::thread([&] { own(guarded); }).join();
  own(guarded);
  std::thread([&] { own(guarded); }).join();
  EXPECT_EQ(guarded.first, 3000U);
}

}  // namespace
}  // namespace verbena::core::soft
