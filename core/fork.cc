// SPDX-License-Identifier: Apache-2.0
#include "core/fork.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstddef>
#include <utility>

namespace verbena::core {

namespace detail {
std::atomic<std::uint32_t> fork_generation{0};
}

namespace {

/// Descriptors beyond are left open in children.
constexpr std::size_t most_descriptors = 65'536;

/// A bit for each descriptor. A fork from another thread sees it before or after; both are right, as the
/// descriptor is open throughout.
std::array<std::atomic<std::uint64_t>, most_descriptors / 64> marked{};

bool is_markable(int descriptor) noexcept {
  return descriptor >= 0 && static_cast<std::size_t>(descriptor) < most_descriptors;
}
std::atomic<std::uint64_t>& word_of(int descriptor) noexcept {
  return marked[static_cast<std::size_t>(descriptor) / 64];
}
std::uint64_t bit_of(int descriptor) noexcept {
  return std::uint64_t{1} << (descriptor % 64);
}

void close_marked() noexcept {
  for (std::size_t i = 0; i < marked.size(); ++i) {
    // Relaxed, both: the child has this thread only.
    std::uint64_t word = marked[i].load(std::memory_order_relaxed);
    if (word == 0) continue;
    marked[i].store(0, std::memory_order_relaxed);
    for (; word != 0; word &= word - 1) ::close(static_cast<int>(i * 64) + std::countr_zero(word));
  }
}

}  // namespace

/// All of the process; the lock is held across a fork, so that the child's copy is whole.
struct ForkNotices {
  static inline pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static inline ForkNotice* first = nullptr;

  static void add(ForkNotice& one) noexcept {
    pthread_mutex_lock(&lock);
    one.next_ = first;
    if (first != nullptr) first->before_ = &one;
    first = &one;
    pthread_mutex_unlock(&lock);
  }
  static void remove(ForkNotice& one) noexcept {
    pthread_mutex_lock(&lock);
    (one.before_ != nullptr ? one.before_->next_ : first) = one.next_;
    if (one.next_ != nullptr) one.next_->before_ = one.before_;
    pthread_mutex_unlock(&lock);
  }

  static void before_fork() noexcept { pthread_mutex_lock(&lock); }
  static void in_parent() noexcept { pthread_mutex_unlock(&lock); }
  static void in_child() noexcept {
    // Relaxed: the child has this thread only.
    detail::fork_generation.fetch_add(1, std::memory_order_relaxed);
    close_marked();
    for (ForkNotice* one = first; one != nullptr; one = one->next_) one->act_(one->self_);
    pthread_mutex_unlock(&lock);
  }
};

namespace {
[[maybe_unused]] const int installed =
    pthread_atfork(&ForkNotices::before_fork, &ForkNotices::in_parent, &ForkNotices::in_child);
}

ForkNotice::ForkNotice(Act* act, void* self) noexcept : act_(act), self_(self) {
  ForkNotices::add(*this);
}
ForkNotice::~ForkNotice() {
  ForkNotices::remove(*this);
}

ClosedInChildren::ClosedInChildren(int descriptor) noexcept : descriptor_(descriptor) {
  // Relaxed, here and below: bits of a number that only its owner marks.
  if (is_markable(descriptor)) word_of(descriptor).fetch_or(bit_of(descriptor), std::memory_order_relaxed);
}
ClosedInChildren::ClosedInChildren(ClosedInChildren&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}
ClosedInChildren& ClosedInChildren::operator=(ClosedInChildren&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}
ClosedInChildren::~ClosedInChildren() {
  if (is_markable(descriptor_)) {
    word_of(descriptor_).fetch_and(~bit_of(descriptor_), std::memory_order_relaxed);
  }
}

}  // namespace verbena::core
