// SPDX-License-Identifier: Apache-2.0
#include "transport/pool_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "core/cache/address_range.h"
#include "core/error.h"

namespace verbena {
namespace transport {
namespace {

/// Memory in huge pages is a multiple of theirs: asked for only where that is no more than was declared.
constexpr std::size_t huge_page = std::size_t{2} << 20;

core::SharedMemory make_memory(std::size_t bytes) {
  return bytes == 0 ? core::SharedMemory{} : core::SharedMemory{bytes, bytes % huge_page == 0};
}

}  // namespace

PoolMemory::PoolMemory(core::Device& device, ibv_pd* pd, SharedRegions& regions, std::size_t bytes)
    : registration_(make_memory(bytes)), blocks_(registration_.memory.size()) {
  if (bytes == 0) return;
  ibv_mr* const region =
      device.reg_shared_mr(pd, registration_.memory.range(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
  if (region == nullptr)
    core::throw_verb_error(device.name(), "ibv_reg_mr", errno, fmt::format("{} bytes for the pool", bytes));
  registration_.region = {device, region};
  regions.add(registration_, SharedRegions::Reason::is_pool);
}

std::byte* PoolMemory::take(std::size_t length) noexcept {
  // The memory is shared with the parent, whose books say what is free.
  if (!process_.is_this()) [[unlikely]]
    return nullptr;
  const std::optional<std::size_t> offset = blocks_.take(length);
  if (!offset) [[unlikely]] {
    ++exhausted_;
    return nullptr;
  }
  return registration_.memory.data() + *offset;
}

void PoolMemory::require_this_process() const {
  if (process_.is_this()) return;
  throw Error(errc::other_process, "the pool is that of the process that this one was forked from");
}

void PoolMemory::give(std::byte* block) noexcept {
  blocks_.give(static_cast<std::size_t>(block - registration_.memory.data()));
}

bool PoolMemory::contains(std::span<const std::byte> bytes) const noexcept {
  return registration_.holds(bytes);
}

Pool::Figures PoolMemory::figures() noexcept {
  return {registration_.memory.size(), blocks_.in_use(), blocks_.most_in_use(), exhausted_,
          registration_.memory.huge_pages()};
}

}  // namespace transport

std::byte* Pool::take(std::size_t length) noexcept {
  return memory_->take(length);
}
void Pool::give(std::byte* block) noexcept {
  memory_->give(block);
}
bool Pool::contains(std::span<const std::byte> bytes) const noexcept {
  return memory_->contains(bytes);
}
Pool::Figures Pool::figures() const noexcept {
  return memory_->figures();
}

Slice Pool::slice(std::span<const std::byte> bytes) const noexcept {
  if (!memory_->contains(bytes)) return {};
  return {const_cast<std::byte*>(bytes.data()), bytes.size(), memory_->lkey()};
}

void* Pool::do_allocate(std::size_t bytes, std::size_t alignment) {
  if (alignment > core::page_size()) {
    throw Error(errc::invalid_argument,
                fmt::format("a pool's blocks are aligned to a page at most ({} bytes), not to {}",
                            core::page_size(), alignment));
  }
  if (std::byte* block = take(std::max(bytes, alignment))) return block;
  memory_->require_this_process();
  const Figures now = figures();
  throw Error(errc::no_buffer,
              fmt::format("the pool has no block of {} bytes left: {} of its {} are in use; raise "
                          "Options::pool_bytes, or keep less in it",
                          bytes, now.in_use, now.capacity));
}

void Pool::do_deallocate(void* block, std::size_t, std::size_t) {
  give(static_cast<std::byte*>(block));
}

}  // namespace verbena
