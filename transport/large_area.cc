// SPDX-License-Identifier: Apache-2.0
#include "transport/large_area.h"

#include <cassert>
#include <cerrno>
#include <iterator>

#include "core/error.h"

namespace verbena::transport {
namespace {

constexpr std::size_t grain = 64;  // a cache line: ranges don't share one
constexpr std::size_t rounded(std::size_t length) {
  return (length + grain - 1) / grain * grain;
}

}  // namespace

LargeArea::LargeArea(core::Device& device, ibv_pd* pd, std::size_t bytes, int access)
    : memory_(bytes, false), region_(device, device.reg_shared_mr(pd, memory_.range(), access)) {
  if (!region_) core::throw_verb_error(device.name(), "ibv_reg_mr", errno, "the memory for large messages");
  free_.emplace(0, memory_.size());
}

std::byte* LargeArea::take(std::size_t length) {
  const std::size_t wanted = rounded(length);
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    if (range->second < wanted) continue;
    const std::size_t offset = range->first;
    const std::size_t left = range->second - wanted;
    free_.erase(range);
    if (left) free_.emplace(offset + wanted, left);
    return memory_.data() + offset;
  }
  return nullptr;
}

void LargeArea::give(std::byte* range, std::size_t length) {
  auto offset = static_cast<std::size_t>(range - memory_.data());
  std::size_t size = rounded(length);
  auto next = free_.lower_bound(offset);
  assert((next == free_.end() || offset + size <= next->first) && "given back twice");
  if (next != free_.end() && offset + size == next->first) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += size;
      return;
    }
  }
  free_.emplace(offset, size);
}

}  // namespace verbena::transport
