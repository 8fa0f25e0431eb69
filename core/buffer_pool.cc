// SPDX-License-Identifier: Apache-2.0
#include "core/buffer_pool.h"

#include <fmt/format.h>

#include <cerrno>

#include "core/error.h"

namespace verbena::core {
namespace {

/// Two buffers in one cache line would be passed between cores that don't share them.
constexpr std::size_t cache_line = 64;

constexpr std::size_t round_up(std::size_t size) {
  return (size + cache_line - 1) / cache_line * cache_line;
}

Handle<ibv_mr> register_memory(Device& device, ibv_pd* pd, const SharedMemory& memory, int access) {
  ibv_mr* region = device.reg_shared_mr(pd, memory.range(), access);
  if (region == nullptr) {
    throw_verb_error(device.name(), "ibv_reg_mr", errno,
                     fmt::format("{} bytes for a buffer pool", memory.size()));
  }
  return {device, region};
}

}  // namespace

BufferPool::BufferPool(Device& device, ibv_pd* pd, std::size_t count, std::size_t size, int access)
    : count_(count),
      size_(round_up(size)),
      memory_(count_ * size_),
      region_(register_memory(device, pd, memory_, access)) {
  free_.reserve(count_);
  // The first buffer is taken first, so that a pool that is never emptied touches few pages.
  for (std::size_t i = count_; i-- > 0;) free_.push_back(memory_.data() + i * size_);
}

}  // namespace verbena::core
