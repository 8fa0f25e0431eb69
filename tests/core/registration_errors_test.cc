// SPDX-License-Identifier: Apache-2.0
// What can't be registered.
#include <limits>
#include <string>

#include "core/cache_fixture.h"
#include "verbena/error.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

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

}  // namespace
}  // namespace verbena::test
