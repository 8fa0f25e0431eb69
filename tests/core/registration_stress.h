// SPDX-License-Identifier: Apache-2.0
/// What the stress of the registration cache is made of: memory whose pages know who they are, and workers
/// that do to it whatever a program may. VERBENA_STRESS_STEPS sets how many steps are made in all.
#pragma once

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <system_error>
#include <utility>
#include <vector>

#include "core/cache/registration_cache.h"
#include "support/seed.h"

namespace verbena::test {

inline const std::size_t page = core::page_size();
inline constexpr std::size_t most_pages = 12;
/// As many as the user wants, else `otherwise`.
inline std::size_t steps_wanted(std::size_t otherwise) {
  const char* text = std::getenv("VERBENA_STRESS_STEPS");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// Identities of pages, unique in the process, so that no two pages are ever taken for each other.
inline std::atomic<std::uint64_t> next_identity{1};

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
  std::atomic<std::size_t> children{0};
};

enum class Confirming { each, together, not_at_all };

/// Moves bytes out of pages, as the device that it stands for: how many of `count` pages from `first` on
/// weren't those that `memory` has there.
using Transfer = std::function<std::size_t(const core::Pin& pin, const Stamped& memory, std::size_t first,
                                           std::size_t count)>;

struct Way {
  Confirming confirming = Confirming::each;
  int most_access = 3;  ///< of 1 to 3
};

class Worker {
 public:
  Worker(core::RegistrationCache& cache, Transfer transfer, std::uint64_t seed, Way way, Findings& findings)
      : cache_(cache), move_(std::move(transfer)), dice_(seed), way_(way), findings_(findings) {}

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
      case 9:
        if (dice_.one_in(20)) fork_a_child(memory);
        break;
      default:
        transfer(memory);
    }
  }

  void unmap(std::size_t which) {
    std::swap(memories_[which], memories_.back());
    memories_.pop_back();
  }

  /// It does away with its copy, and goes, with exec or without.
  void fork_a_child(const Stamped& memory) {
    const bool execs = dice_.one_in(2);
    const pid_t child = fork();
    if (child == 0) {
      munmap(memory.at(0), memory.pages() * page);
      if (execs) execl("/bin/true", "true", nullptr);
      _exit(execs ? 127 : 0);
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) ++findings_.failures;
    ++findings_.children;
  }

  void transfer(const Stamped& memory) {
    const std::size_t first = dice_.between(0, memory.pages() - 1);
    const std::size_t count = dice_.between(1, memory.pages() - first);
    const int access = static_cast<int>(dice_.between(1, static_cast<std::size_t>(way_.most_access)));
    std::error_code error;
    core::Pin pin = way_.confirming == Confirming::each
                        ? cache_.acquire(memory.at(first), count * page, access, error)
                        : cache_.acquire_early(memory.at(first), count * page, access, error);
    if (way_.confirming == Confirming::together && !(cache_.settle() && pin.current())) {
      pin = cache_.acquire(memory.at(first), count * page, access, error);
    }
    if (!pin) {
      ++findings_.failures;
      return;
    }
    findings_.stale += move_(pin, memory, first, count);
    ++findings_.transfers;
    if (dice_.one_in(4) && held_.size() < 4) held_.push_back(std::move(pin));
  }

  core::RegistrationCache& cache_;
  Transfer move_;
  Dice dice_;
  Way way_;
  Findings& findings_;
  std::vector<Stamped> memories_;
  std::vector<core::Pin> held_;
};

}  // namespace verbena::test
