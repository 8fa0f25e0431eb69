// SPDX-License-Identifier: Apache-2.0
// What does a hit in the registration cache cost, release included?
//
// Two cache lines (a hint, the entry), two locked instructions of 2 to 3 ns each, a counter of the thread's
// own: some 10 ns where the lines are near. It depends on how many entries are in use, not on how many there
// are (few_of_many). At random among 100,000 the hints take 2 MiB and the entries' lines 6 MiB, so that each
// look-up meets memory twice, one access after the other: two_lines_at_random is what that costs at least
// where look-ups don't overlap, and they do to a part. Two threads at different ranges share no line that is
// written, so each costs what one does. A confirmed hit adds a system call that asks the kernel for next to
// nothing: about two null system calls, a hundredth of a registration.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "core/cache/registration_cache.h"

namespace {

using namespace verbena::core;

constexpr int access = 1;

class NoDevice final : public Registrar {
 public:
  std::string_view name() const noexcept override { return "none"; }
  bool pins() const noexcept override { return false; }
  int add(AddressRange, int, Registration& registration) noexcept override {
    registration = {this, 1, 2};
    return 0;
  }
  int remove(const Registration&) noexcept override { return 0; }
};

/// `entries` ranges of a page each, side by side in one mapping: the kernel bounds how many pieces a mapping
/// may be watched in.
class Cached {
 public:
  explicit Cached(std::size_t entries)
      : cache_(device_, process_watcher(), {.entries = entries + 16, .joined = 0}),
        size_(entries * page_size()),
        memory_(static_cast<std::byte*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))),
        order_(entries) {
    if (memory_ == MAP_FAILED) throw std::runtime_error("no address space");
    std::iota(order_.begin(), order_.end(), 0U);
    std::error_code error;
    for (const std::uint32_t i : order_) cache_.acquire(at(i), page_size(), access, error);
    if (cache_.counters().entries != entries) throw std::runtime_error("not all is cached");
    std::shuffle(order_.begin(), order_.end(), std::mt19937{1});
    for (const std::uint32_t i : order_) cache_.acquire(at(i), page_size(), access, error);
  }
  ~Cached() { munmap(memory_, size_); }
  Cached(const Cached&) = delete;
  Cached& operator=(const Cached&) = delete;

  const void* at(std::uint32_t i) const { return memory_ + i * page_size(); }
  RegistrationCache& cache() { return cache_; }
  const std::vector<std::uint32_t>& order() const { return order_; }

 private:
  NoDevice device_;
  RegistrationCache cache_;
  std::size_t size_;
  std::byte* memory_;
  std::vector<std::uint32_t> order_;
};

/// Each thread goes through its own part of the first `used` entries, or of all, in random order.
template <class Hit>
void go_through(benchmark::State& state, Hit hit, std::size_t used = ~std::size_t{0}) {
  static std::unique_ptr<Cached> cached;
  if (state.thread_index() == 0) {
    cached.reset();
    cached = std::make_unique<Cached>(static_cast<std::size_t>(state.range(0)));
  }
  // The loop's beginning is a barrier; the pointer is read behind it.
  std::size_t at = 0;
  std::size_t end = 0;
  for ([[maybe_unused]] auto _ : state) {
    if (at == end) [[unlikely]] {
      const std::size_t share =
          std::min(used, cached->order().size()) / static_cast<std::size_t>(state.threads());
      at = share * static_cast<std::size_t>(state.thread_index());
      end = at + share;
    }
    benchmark::DoNotOptimize(hit(cached->cache(), cached->at(cached->order()[at++])));
  }
  if (state.thread_index() == 0) {
    state.counters["misses"] =
        static_cast<double>(cached->cache().counters().misses) - static_cast<double>(state.range(0));
  }
}

void early_hit(benchmark::State& state) {
  go_through(state, [](RegistrationCache& cache, const void* address) {
    std::error_code error;
    return cache.acquire_early(address, 64, access, error).lkey();
  });
}

void few_of_many(benchmark::State& state) {
  constexpr std::size_t used = 500;
  go_through(
      state,
      [](RegistrationCache& cache, const void* address) {
        std::error_code error;
        return cache.acquire_early(address, 64, access, error).lkey();
      },
      used);
}

void confirmed_hit(benchmark::State& state) {
  go_through(state, [](RegistrationCache& cache, const void* address) {
    std::error_code error;
    return cache.acquire(address, 64, access, error).lkey();
  });
}

/// As a loop's turn does it: 32 hits, one confirmation.
void hits_confirmed_together(benchmark::State& state) {
  unsigned count = 0;
  go_through(state, [&count](RegistrationCache& cache, const void* address) {
    std::error_code error;
    const Pin pin = cache.acquire_early(address, 64, access, error);
    if (++count % 32 == 0) cache.settle();
    return pin.current();
  });
}

/// The floor: a line of a table, the line that it names, a count up and down; all at random.
void two_lines_at_random(benchmark::State& state) {
  struct alignas(128) Line {
    std::atomic<std::uint64_t> count{0};
  };
  const auto lines = static_cast<std::size_t>(state.range(0));
  const std::size_t table_size = std::bit_ceil(lines) * 2;
  const OwnMemory table_memory{table_size * sizeof(std::uint64_t)};
  const OwnMemory line_memory{lines * sizeof(Line)};
  auto* const table = static_cast<std::uint64_t*>(table_memory.data());
  auto* const line = static_cast<Line*>(line_memory.data());
  std::mt19937 random{1};
  std::vector<std::uint32_t> order(lines);
  std::iota(order.begin(), order.end(), 0U);
  for (std::uint32_t& place : order) place = static_cast<std::uint32_t>(place * (table_size / lines));
  for (std::size_t i = 0; i < lines; ++i) {
    table[order[i]] = i;
    line[i].count.store(0, std::memory_order_relaxed);
  }
  std::shuffle(order.begin(), order.end(), random);
  std::size_t at = 0;
  for ([[maybe_unused]] auto _ : state) {
    if (at == lines) at = 0;
    std::atomic<std::uint64_t>& count = line[table[order[at++]]].count;
    at += count.fetch_add(1) >> 63;  // 0, but the next look-up has to wait for it
    count.fetch_sub(1);
  }
}

void only_confirming(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(process_watcher().settle());
}

BENCHMARK(early_hit)->Arg(10)->Arg(100)->Arg(1'000)->Arg(10'000)->Arg(100'000);
BENCHMARK(early_hit)->Arg(10)->Arg(1'000)->Arg(100'000)->Threads(2)->UseRealTime();
BENCHMARK(few_of_many)->Arg(500)->Arg(10'000)->Arg(100'000);
BENCHMARK(two_lines_at_random)->Arg(10)->Arg(10'000)->Arg(100'000);
BENCHMARK(hits_confirmed_together)->Arg(10)->Arg(100'000);
BENCHMARK(confirmed_hit)->Arg(10)->Arg(100'000);
BENCHMARK(only_confirming);

}  // namespace
