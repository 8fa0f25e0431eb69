// SPDX-License-Identifier: Apache-2.0
// The proof mode.
#include <stdlib.h>

#include <string>

#include "core/cache_fixture.h"
#include "support/seed.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

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

}  // namespace
}  // namespace verbena::test
