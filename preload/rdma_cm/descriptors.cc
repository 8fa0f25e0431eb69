// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/descriptors.h"

#include <array>
#include <atomic>
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

bool is_in_range(int descriptor) noexcept {
  return descriptor >= 0 && static_cast<std::size_t>(descriptor) < most;
}

}  // namespace

bool mark(int descriptor) noexcept {
  if (!is_in_range(descriptor)) return false;
  const auto at = static_cast<std::size_t>(descriptor);
  marks[at / bits].fetch_or(bit_of(at), relaxed);
  return true;
}

bool unmark(int descriptor) noexcept {
  if (!is_channel(descriptor)) return false;
  const auto at = static_cast<std::size_t>(descriptor);
  return marks[at / bits].fetch_and(~bit_of(at), relaxed) & bit_of(at);
}

bool is_channel(int descriptor) noexcept {
  if (!is_in_range(descriptor)) return false;
  const auto at = static_cast<std::size_t>(descriptor);
  return marks[at / bits].load(relaxed) & bit_of(at);
}

}  // namespace verbena::preload::rdma_cm
