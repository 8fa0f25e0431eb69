// SPDX-License-Identifier: Apache-2.0
/// Threads map, register, transfer, unmap, move and empty memory at random, so that the kernel hands one
/// thread the addresses that another is giving up; every transfer must meet the pages that its thread has
/// mapped. VERBENA_STRESS_STEPS sets how many steps are made in all.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/cache/registration_cache.h"
#include "core/fake_registrar.h"
#include "support/seed.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

const std::size_t page = core::page_size();
constexpr std::size_t most_pages = 12;
constexpr std::size_t default_steps = 16'000;

std::size_t steps_wanted() {
  const char* text = std::getenv("VERBENA_STRESS_STEPS");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : default_steps;
}

/// Identities of pages, unique in the process, so that no two pages are ever taken for each other.
std::atomic<std::uint64_t> next_identity{1};

/// Memory of one thread, each page stamped when it is new.
class Stamped {
 public:
  explicit Stamped(std::size_t pages) { map(nullptr, pages, 0); }
  Stamped(Stamped&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), identities_(std::move(other.identities_)) {}
  Stamped& operator=(Stamped&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(identities_, other.identities_);
    return *this;
  }
  ~Stamped() {
    if (base_ != nullptr) munmap(base_, identities_.size() * page);
  }

  std::size_t pages() const { return identities_.size(); }
  std::byte* at(std::size_t which) const { return base_ + which * page; }
  std::uint64_t identity(std::size_t which) const { return identities_[which]; }

  /// New memory at the same addresses.
  void map_over() { map(base_, pages(), MAP_FIXED); }
  /// The kernel takes the pages, and gives zeroed ones.
  void empty(std::size_t first, std::size_t count) {
    madvise(at(first), count * page, MADV_DONTNEED);
    stamp(first, count);
  }
  void shrink(std::size_t count) {
    munmap(at(count), (pages() - count) * page);
    identities_.resize(count);
  }
  void resize(std::size_t count) {
    const std::size_t before = pages();
    void* const moved = mremap(base_, before * page, count * page, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) return;
    base_ = static_cast<std::byte*>(moved);
    identities_.resize(count);
    if (count > before) stamp(before, count - before);
  }

 private:
  void map(void* where, std::size_t pages, int flags) {
    void* const memory =
        mmap(where, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    base_ = static_cast<std::byte*>(memory);
    identities_.resize(pages);
    stamp(0, pages);
  }
  void stamp(std::size_t first, std::size_t count) {
    for (std::size_t i = first; i < first + count; ++i) {
      identities_[i] = next_identity.fetch_add(1);
      std::memcpy(at(i), &identities_[i], sizeof identities_[i]);
    }
  }

  std::byte* base_ = nullptr;
  std::vector<std::uint64_t> identities_;
};

struct Findings {
  std::atomic<std::size_t> transfers{0};
  std::atomic<std::size_t> stale{0};
  std::atomic<std::size_t> failures{0};
};

enum class Confirming { each, together, not_at_all };

class Worker {
 public:
  Worker(RegistrationCache& cache, FakeRegistrar& device, std::uint64_t seed, Confirming confirming,
         Findings& findings)
      : cache_(cache), device_(device), dice_(seed), confirming_(confirming), findings_(findings) {}

  void run(std::size_t steps) {
    for (std::size_t i = 0; i < steps; ++i) step();
  }

 private:
  void step() {
    if (memories_.empty()) memories_.emplace_back(dice_.between(1, most_pages));
    const std::size_t which = dice_.between(0, memories_.size() - 1);
    Stamped& memory = memories_[which];
    switch (dice_.between(0, 31)) {
      case 0:
      case 1:
        if (memories_.size() < 6) memories_.emplace_back(dice_.between(1, most_pages));
        break;
      case 2:
      case 3:
        unmap(which);
        break;
      case 4:
        memory.map_over();
        break;
      case 5: {
        const std::size_t first = dice_.between(0, memory.pages() - 1);
        memory.empty(first, dice_.between(1, memory.pages() - first));
        break;
      }
      case 6:
        memory.resize(dice_.between(1, most_pages));
        break;
      case 7:
        if (memory.pages() > 1) memory.shrink(dice_.between(1, memory.pages() - 1));
        break;
      case 8:
        if (!held_.empty()) held_.pop_back();
        break;
      default:
        transfer(memory);
    }
  }

  void unmap(std::size_t which) {
    std::swap(memories_[which], memories_.back());
    memories_.pop_back();
  }

  void transfer(const Stamped& memory) {
    const std::size_t first = dice_.between(0, memory.pages() - 1);
    const std::size_t count = dice_.between(1, memory.pages() - first);
    const int access = static_cast<int>(dice_.between(1, 3));
    std::error_code error;
    Pin pin = confirming_ == Confirming::each
                  ? cache_.acquire(memory.at(first), count * page, access, error)
                  : cache_.acquire_early(memory.at(first), count * page, access, error);
    if (confirming_ == Confirming::together && !(cache_.settle() && pin.current())) {
      pin = cache_.acquire(memory.at(first), count * page, access, error);
    }
    if (!pin) {
      ++findings_.failures;
      return;
    }
    for (std::size_t i = first; i < first + count; ++i) {
      const auto met = device_.transfer(pin.lkey(), memory.at(i));
      if (met != memory.identity(i)) ++findings_.stale;
    }
    ++findings_.transfers;
    if (dice_.one_in(4) && held_.size() < 4) held_.push_back(std::move(pin));
  }

  RegistrationCache& cache_;
  FakeRegistrar& device_;
  Dice dice_;
  Confirming confirming_;
  Findings& findings_;
  std::vector<Stamped> memories_;
  std::vector<Pin> held_;
};

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
        Worker{cache, device, seed, confirming, findings}.run(steps / threads);
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
  run(core::process_watcher(), Confirming::each, 3, steps_wanted(), findings);
  expect_sound(findings);
  EXPECT_GT(counters_.hits, 0U);
  EXPECT_GT(counters_.invalidations, 0U);
  EXPECT_GT(counters_.retired, 0U);
}

TEST_F(RegistrationStressTest, SoDoTransfersWhoseHitsAreConfirmedLater) {
  Findings findings;
  run(core::process_watcher(), Confirming::together, 3, steps_wanted(), findings);
  expect_sound(findings);
}

TEST_F(RegistrationStressTest, AThreadAloneNeedsNoConfirmation) {
  Findings findings;
  run(core::process_watcher(), Confirming::not_at_all, 1, steps_wanted() / 2, findings);
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
  run(slow, Confirming::each, 3, steps_wanted() / 4, findings);
  expect_sound(findings);
}

}  // namespace
}  // namespace verbena::test
