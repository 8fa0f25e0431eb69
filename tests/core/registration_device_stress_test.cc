// SPDX-License-Identifier: Apache-2.0
// The stress of the registration cache on a device: what it writes from registered pages must be what their
// thread has mapped there. On SoftRoCE pages are pinned, so a stale registration would write old ones.
#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "core/cache/device_registrar.h"
#include "core/registration_stress.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

/// Under emulation a step takes a millisecond or two.
constexpr std::size_t default_steps = 6'000;
constexpr std::size_t threads = 3;

/// A thread's way out: pages' identities are written to a place of its own, by its own queue pair.
class Outlet {
 public:
  Outlet(core::Device& device, ibv_pd* pd)
      : pair_(device, options_in(pd)), sink_(pair_.b.buffer(most_pages * 8)) {}

  std::size_t write(const core::Pin& pin, const Stamped& memory, std::size_t first, std::size_t count) {
    constexpr std::uint32_t word = sizeof(std::uint64_t);
    std::ranges::fill(sink_.bytes(), std::byte{});
    for (std::size_t i = 0; i < count; ++i) {
      const ibv_sge identity{reinterpret_cast<std::uintptr_t>(memory.at(first + i)), word, pin.lkey()};
      Work work = test::write({identity}, sink_.remote(i * word));
      if (i + 1 < count) work.request.send_flags = 0;  // the last one's completion is that of all
      pair_.a.post(work);
    }
    if (pair_.a.sent().status != IBV_WC_SUCCESS) return count;
    std::size_t stale = 0;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t met = 0;
      std::memcpy(&met, sink_.bytes().data() + i * word, word);
      stale += met != memory.identity(first + i);
    }
    return stale;
  }

 private:
  static EndpointOptions options_in(ibv_pd* pd) {
    EndpointOptions options;
    options.pd = pd;
    return options;
  }

  Pair pair_;
  Buffer& sink_;
};

class RegistrationDeviceStressTest : public DeviceTest {};

TEST_F(RegistrationDeviceStressTest, TheDeviceMeetsThePagesThatAreMapped) {
  if (!core::process_watcher().works()) GTEST_SKIP() << core::process_watcher().why_not();
  const core::Handle<ibv_pd> pd{device(), device().alloc_pd()};
  ASSERT_TRUE(pd);
  Dice dice;
  Findings findings;
  core::DeviceRegistrar registrar{device(), pd.get()};
  core::RegistrationCache::Counters counters;
  {
    core::RegistrationCache cache{
        registrar, core::process_watcher(), {.entries = 8, .joined = 16 * page, .removal_delay = 0}};
    std::vector<std::unique_ptr<Outlet>> outlets;
    std::vector<std::thread> running;
    for (std::size_t i = 0; i < threads; ++i) {
      Outlet& outlet = *outlets.emplace_back(std::make_unique<Outlet>(device(), pd.get()));
      running.emplace_back([&, seed = dice.word()] {
        const auto transfer = [&](const core::Pin& pin, const Stamped& memory, std::size_t first,
                                  std::size_t count) { return outlet.write(pin, memory, first, count); };
        Worker{cache, transfer, seed, {Confirming::each, IBV_ACCESS_LOCAL_WRITE}, findings}.run(
            steps_wanted(default_steps) / threads);
      });
    }
    for (std::thread& thread : running) thread.join();
    counters = cache.counters();
    EXPECT_LE(counters.entries, 8U);
  }
  EXPECT_EQ(findings.stale, 0U);
  EXPECT_EQ(findings.failures, 0U);
  EXPECT_GT(findings.transfers, 0U);
  EXPECT_GT(findings.children, 0U);
  EXPECT_GT(counters.hits, 0U);
  EXPECT_GT(counters.invalidations, 0U);
}

}  // namespace
}  // namespace verbena::test
