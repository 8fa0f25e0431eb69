// SPDX-License-Identifier: Apache-2.0
/// Threads map, register, transfer, unmap, move and empty memory at random, so that the kernel hands one
/// thread the addresses that another is giving up; every transfer must meet the pages that its thread has
/// mapped.
#include <gtest/gtest.h>
#include <sched.h>

#include <cstddef>
#include <thread>
#include <vector>

#include "core/cache/registration_cache.h"
#include "core/fake_registrar.h"
#include "core/registration_stress.h"
#include "support/seed.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::RegistrationCache;

constexpr std::size_t default_steps = 16'000;

class RegistrationStressTest : public testing::Test {
 protected:
  void SetUp() override {  // where the kernel allows no userfaultfd there is nothing to stress
    if (!core::process_watcher().works()) GTEST_SKIP() << core::process_watcher().why_not();
  }
  /// Some threads, some steps each; all on one cache.
  void run(MemoryWatcher& watcher, Confirming confirming, std::size_t threads, std::size_t steps,
           Findings& findings) {
    FakeRegistrar device;
    // No delay is needed, as no thread asks for what another one is emptying.
    RegistrationCache cache{device, watcher, {.entries = 8, .joined = 16 * page, .removal_delay = 0}};
    std::vector<std::thread> running;
    for (std::size_t i = 0; i < threads; ++i) {
      running.emplace_back([&, seed = dice_.word()] {
        const auto transfer = [&device](const core::Pin& pin, const Stamped& memory, std::size_t first,
                                        std::size_t count) {
          std::size_t stale = 0;
          for (std::size_t at = first; at < first + count; ++at) {
            stale += device.transfer(pin.lkey(), memory.at(at)) != memory.identity(at);
          }
          return stale;
        };
        Worker{cache, transfer, seed, {confirming}, findings}.run(steps / threads);
      });
    }
    for (std::thread& thread : running) thread.join();
    counters_ = cache.counters();
  }

  RegistrationCache::Counters counters_;
  Dice dice_;
};

void expect_sound(const Findings& findings) {
  EXPECT_EQ(findings.stale, 0U);
  EXPECT_EQ(findings.failures, 0U);
  EXPECT_GT(findings.transfers, 0U);
}

TEST_F(RegistrationStressTest, EveryTransferMeetsThePagesOfItsThread) {
  Findings findings;
  run(core::process_watcher(), Confirming::each, 3, steps_wanted(default_steps), findings);
  expect_sound(findings);
  EXPECT_GT(counters_.hits, 0U);
  EXPECT_GT(counters_.invalidations, 0U);
  EXPECT_GT(counters_.retired, 0U);
  EXPECT_GT(findings.children, 0U);
}

TEST_F(RegistrationStressTest, SoDoTransfersWhoseHitsAreConfirmedLater) {
  Findings findings;
  run(core::process_watcher(), Confirming::together, 3, steps_wanted(default_steps), findings);
  expect_sound(findings);
}

TEST_F(RegistrationStressTest, AThreadAloneNeedsNoConfirmation) {
  Findings findings;
  run(core::process_watcher(), Confirming::not_at_all, 1, steps_wanted(default_steps) / 2, findings);
  expect_sound(findings);
}

// That this test can find what it looks for: with parts of the protocol taken out it does.

/// Gives the other threads time in the window.
void dawdle(void*) {
  for (int i = 0; i < 50; ++i) sched_yield();
}

TEST_F(RegistrationStressTest, FindsWhatWouldBeStaleWithoutTheMark) {
  MemoryWatcher wrong{{.announces = false, .before_telling = dawdle}};
  if (!wrong.works()) GTEST_SKIP() << wrong.why_not();
  Findings findings;
  for (int round = 0; round < 400 && findings.stale == 0; ++round) {
    run(wrong, Confirming::each, 2, 1000, findings);
  }
  EXPECT_GT(findings.stale, 0U);
}

TEST_F(RegistrationStressTest, FindsWhatWouldBeStaleWithoutConfirmation) {
  MemoryWatcher slow{{.before_announcing = dawdle}};
  if (!slow.works()) GTEST_SKIP() << slow.why_not();
  Findings findings;
  for (int round = 0; round < 400 && findings.stale == 0; ++round) {
    run(slow, Confirming::not_at_all, 3, 1000, findings);
  }
  EXPECT_GT(findings.stale, 0U);
}

TEST_F(RegistrationStressTest, FindsNothingInTheSameWindowsWithTheWholeProtocol) {
  MemoryWatcher slow{{.before_announcing = dawdle, .before_telling = dawdle}};
  if (!slow.works()) GTEST_SKIP() << slow.why_not();
  Findings findings;
  run(slow, Confirming::each, 3, steps_wanted(default_steps) / 4, findings);
  expect_sound(findings);
}

}  // namespace
}  // namespace verbena::test
