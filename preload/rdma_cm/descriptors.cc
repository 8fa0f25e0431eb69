// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/descriptors.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace verbena::preload::rdma_cm {
namespace {

constexpr std::size_t most = 1 << 16;
constexpr std::size_t bits = 64;

// Relaxed: who uses a descriptor has been given it by who marked it, in whatever way orders the two.
std::array<std::atomic<std::uint64_t>, most / bits> marks;

constexpr auto relaxed = std::memory_order_relaxed;

std::uint64_t bit_of(std::size_t descriptor) noexcept {
  return std::uint64_t{1} << descriptor % bits;
}

// Who marked last: a process, or its child after a fork. Relaxed: as marks.
std::atomic<pid_t> owner;

bool is_in_range(int descriptor) noexcept {
  return descriptor >= 0 && static_cast<std::size_t>(descriptor) < most;
}

bool is_marked(int descriptor) noexcept {
  if (!is_in_range(descriptor)) return false;
  const auto at = static_cast<std::size_t>(descriptor);
  return marks[at / bits].load(relaxed) & bit_of(at);
}

/// As every channel is. A look takes nothing away.
bool is_epoll_set(int descriptor) noexcept {
  const int before = errno;
  epoll_event event;
  const bool is_one = ::epoll_wait(descriptor, &event, 1, 0) >= 0 || errno == EINTR;
  errno = before;
  return is_one;
}

}  // namespace

bool mark(int descriptor) noexcept {
  if (!is_in_range(descriptor)) return false;
  const auto at = static_cast<std::size_t>(descriptor);
  owner.store(::getpid(), relaxed);
  marks[at / bits].fetch_or(bit_of(at), relaxed);
  return true;
}

bool unmark(int descriptor) noexcept {
  if (!is_marked(descriptor)) return false;
  const auto at = static_cast<std::size_t>(descriptor);
  return marks[at / bits].fetch_and(~bit_of(at), relaxed) & bit_of(at);
}

bool is_channel(int descriptor) noexcept {
  if (!is_marked(descriptor)) [[likely]]
    return false;
  if (is_epoll_set(descriptor)) return true;
  if (is_of_this_process()) unmark(descriptor);
  return false;
}

bool is_of_this_process() noexcept {
  return owner.load(relaxed) == ::getpid();
}

}  // namespace verbena::preload::rdma_cm
