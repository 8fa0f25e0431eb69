// SPDX-License-Identifier: Apache-2.0
// The windows of the protocol, held open.
#include <atomic>
#include <thread>

#include "core/cache_fixture.h"
#include "support/patience.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

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

}  // namespace
}  // namespace verbena::test
