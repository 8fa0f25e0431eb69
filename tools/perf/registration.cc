// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/registration.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <verbena/loop.h>
#include <verbena/memory.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>

#include "tools/common/cycles.h"
#include "tools/common/failure.h"
#include "tools/common/progress.h"
#include "tools/common/samples.h"
#include "tools/common/table.h"
#include "tools/common/units.h"

namespace verbena::tools {
namespace {

/// Pages of this process, touched, that can be exchanged for others at the same addresses.
class Pages {
 public:
  explicit Pages(std::size_t size) : size_(size) { map(nullptr, 0); }
  ~Pages() { ::munmap(memory_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::span<std::byte> bytes() const noexcept { return {static_cast<std::byte*>(memory_), size_}; }
  /// What was registered of them isn't any more, whoever looks: the cache has to notice.
  void exchange() { map(memory_, MAP_FIXED); }

 private:
  void map(void* where, int flags) {
    memory_ = ::mmap(where, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | flags,
                     -1, 0);
    if (memory_ == MAP_FAILED)
      throw Failure(fmt::format("{} of memory can't be had: {}", show_size(size_),
                                std::generic_category().message(errno)));
  }

  std::size_t size_;
  void* memory_ = nullptr;
};

struct Costs {
  Distribution add, remove;  ///< a registration of one's own
  Distribution miss, hit;    ///< by the cache: of new pages, and of the same once more
  std::size_t iterations = 0;
  Statistics counted;  ///< by the cache, meanwhile
};

class Measurement {
 public:
  Measurement(Loop& loop, std::uint64_t size) : loop_(loop), pages_(size) {}

  Costs run(const Plan& plan) {
    const Statistics before = loop_.snapshot().counters;
    Progress progress(fmt::format("register, {}", show_size(pages_.bytes().size())));
    const std::uint64_t begin = now_ns();
    const double limit_ns = plan.seconds.value_or(0) * 1e9;
    const std::size_t most =
        plan.iterations != 0 ? std::min<std::size_t>(plan.iterations, capacity) : capacity;
    std::size_t count = 0;
    for (double passed = 0; count < most && (limit_ns == 0 || count == 0 || passed < limit_ns); ++count) {
      once();
      passed = static_cast<double>(now_ns() - begin);
      progress.update(limit_ns > 0 ? passed / limit_ns
                                   : static_cast<double>(count) / static_cast<double>(most));
    }
    Costs costs{
        add_.distribution(),      remove_.distribution(), miss_.distribution(), hit_.distribution(), count,
        loop_.snapshot().counters};
    costs.counted.registrations -= before.registrations;
    costs.counted.registration_hits -= before.registration_hits;
    costs.counted.registration_evictions -= before.registration_evictions;
    costs.counted.registration_invalidations -= before.registration_invalidations;
    costs.counted.registrations_not_kept -= before.registrations_not_kept;
    costs.counted.registration_ns -= before.registration_ns;
    return costs;
  }

 private:
  static constexpr std::size_t capacity = 100'000;

  void once() {
    Region region;
    time(add_, [&] { region = loop_.memory().share(pages_.bytes(), Access::local_write); });
    time(remove_, [&] { region = {}; });
    pages_.exchange();
    Pinned pinned;
    time(miss_, [&] { pinned = loop_.memory().pin(pages_.bytes()); });
    pinned = {};
    time(hit_, [&] { pinned = loop_.memory().pin(pages_.bytes()); });
  }
  static void time(Samples& samples, auto work) {
    const Ticks begin = now_ticks();
    work();
    samples.add(now_ticks() - begin);
  }

  Loop& loop_;
  Pages pages_;
  Samples add_{capacity}, remove_{capacity}, miss_{capacity}, hit_{capacity};
};

nlohmann::ordered_json json_of(const Distribution& times) {
  return {
      {"min", times.min}, {"p50", times.p50}, {"p99", times.p99}, {"p999", times.p999}, {"max", times.max}};
}

void print_json(const std::string& device, std::uint64_t size, const Costs& costs) {
  const Statistics& counted = costs.counted;
  const nlohmann::ordered_json line{
      {"test", "register"},
      {"device", device},
      {"size", size},
      {"iterations", costs.iterations},
      {"register_ns", json_of(costs.add)},
      {"deregister_ns", json_of(costs.remove)},
      {"cached_first_ns", json_of(costs.miss)},
      {"cached_again_ns", json_of(costs.hit)},
      {"cache",
       {{"registrations", counted.registrations},
        {"hits", counted.registration_hits},
        {"evictions", counted.registration_evictions},
        {"invalidations", counted.registration_invalidations},
        {"not_kept", counted.registrations_not_kept},
        {"registration_ns", counted.registration_ns}}},
  };
  fmt::print("{}\n", line.dump());
}

Table columns() {
  return Table({{"size", 9},
                {"register", 10},
                {"deregister", 10},
                {"cached: first", 13},
                {"again", 10},
                {"hits", 9},
                {"misses", 9},
                {"invalidated", 11},
                {"not kept", 9},
                {"iterations", 0}});
}

}  // namespace

void measure_registrations(const Plan& plan) {
  constexpr std::uint32_t no_calls = 0;
  Loop loop{loop_options(plan.device, no_calls, 1, false)};
  const std::string device{loop.device()};
  const Table table = columns();
  if (!plan.json) {
    fmt::print("verbena perf register: {}; medians\n{}\n{}", traits_of(plan.test).summary,
               fact("device", device), table.header());
  }
  for (const std::uint64_t size : plan.sizes) {
    const Costs costs = Measurement(loop, size).run(plan);
    if (plan.json) {
      print_json(device, size, costs);
    } else {
      const Statistics& counted = costs.counted;
      fmt::print("{}", table.row({show_size(size), show_time(costs.add.p50), show_time(costs.remove.p50),
                                  show_time(costs.miss.p50), show_time(costs.hit.p50),
                                  show_count(counted.registration_hits), show_count(counted.registrations),
                                  show_count(counted.registration_invalidations),
                                  show_count(counted.registrations_not_kept), show_count(costs.iterations)}));
    }
    std::fflush(stdout);
  }
}

}  // namespace verbena::tools
