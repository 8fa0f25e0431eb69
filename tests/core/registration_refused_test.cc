// SPDX-License-Identifier: Apache-2.0
// Where the system refuses userfaultfd, as containers' seccomp filters do: slower, and as right, and said
// once.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "core/cache/registration_cache.h"
#include "core/fake_registrar.h"
#include "support/forked.h"
#include "support/refused_call.h"

namespace verbena::test {
namespace {

using core::Pin;
using core::RegistrationCache;

const std::size_t page = core::page_size();

TEST(RegistrationRefusedTest, MemoryIsRegisteredForEachUseAndThatIsSaidOnce) {
  Forked child{[] {
    refuse_system_call(SYS_userfaultfd);
    CaughtStderr caught;
    core::MemoryWatcher& watcher = core::process_watcher();  // the child's first
    constexpr std::uint64_t uses = 100;
    RegistrationCache::Counters counters;
    bool right = true;
    {
      FakeRegistrar device;
      RegistrationCache cache{device, watcher};
      void* memory = nullptr;
      for (std::uint64_t identity = 1; identity <= uses; ++identity) {
        // Other pages at the same address, again and again.
        memory = mmap(memory, page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | (memory != nullptr ? MAP_FIXED : 0), -1, 0);
        std::memcpy(memory, &identity, sizeof identity);
        const Pin pin = cache.acquire(memory, page, 1);
        right = right && device.transfer(pin.lkey(), memory) == identity && pin.current();
      }
      right = right && cache.settle() && device.live() == 0;
      counters = cache.counters();
    }
    const std::string said = caught.text();
    require(!watcher.works(), "the watcher doesn't work");
    require(watcher.why_not().find("seccomp") != std::string::npos, "it says why");
    require(right, "each use meets the pages that are mapped");
    require(counters.misses == uses && counters.unwatched == uses && counters.hits == 0,
            "each use registers");
    require(counters.kept_bytes == 0 && counters.pinned_bytes == 0, "nothing is kept");
    require(std::ranges::count(said, '\n') == 1, "one line is said");
    require(said.find("registered for each use") != std::string::npos, "it says what that means");
    require(said.find("userfaultfd") != std::string::npos, "it says what was refused");
  }};
  EXPECT_EQ(child.join(), 0);
}

}  // namespace
}  // namespace verbena::test
