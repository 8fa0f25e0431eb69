// SPDX-License-Identifier: Apache-2.0
#include "support/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

namespace verbena::test {
namespace {

/// Keeps heap buffers off page and cache-line boundaries, and 64-bit words in them aligned for atomics.
constexpr std::size_t heap_offset = 8;

ibv_mr* must_register(ibv_mr* region) {
  if (region == nullptr)
    throw std::system_error(errno, std::generic_category(), "registering a test's buffer");
  return region;
}

}  // namespace

Buffer::Buffer(core::Device& device, ibv_pd* pd, std::size_t size, int access, MemoryKind kind)
    : device_(device) {
  if (kind == MemoryKind::shared) {
    shared_ = core::SharedMemory{size};
    bytes_ = shared_.bytes().first(size);
    region_ = {device, must_register(device.reg_shared_mr(pd, shared_.range(), access))};
    return;
  }
  if (kind == MemoryKind::mapped) {
    allocation_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (allocation_ == MAP_FAILED) throw std::bad_alloc();
    mapped_length_ = size;
    bytes_ = {static_cast<std::byte*>(allocation_), size};
  } else {
    allocation_ = std::calloc(1, size + heap_offset);
    if (allocation_ == nullptr) throw std::bad_alloc();
    bytes_ = {static_cast<std::byte*>(allocation_) + heap_offset, size};
  }
  region_ = {device, must_register(device.reg_mr(pd, bytes_.data(), size, access))};
}

Buffer::~Buffer() {
  region_.reset();
  if (mapped_length_ != 0) {
    munmap(allocation_, mapped_length_);
  } else {
    std::free(allocation_);
  }
}

ibv_sge Buffer::piece(std::size_t offset, std::size_t length) const {
  return {reinterpret_cast<std::uintptr_t>(bytes_.data() + offset), static_cast<std::uint32_t>(length),
          region_->lkey};
}

Remote Buffer::remote(std::size_t offset) const {
  return {reinterpret_cast<std::uintptr_t>(bytes_.data() + offset), region_->rkey};
}

int Buffer::deregister() {
  return device_.dereg_mr(region_.release());
}

std::uint64_t Buffer::word(std::size_t offset) const {
  return __atomic_load_n(reinterpret_cast<const std::uint64_t*>(bytes_.data() + offset), __ATOMIC_ACQUIRE);
}

void Buffer::set_word(std::uint64_t value, std::size_t offset) {
  __atomic_store_n(reinterpret_cast<std::uint64_t*>(bytes_.data() + offset), value, __ATOMIC_RELEASE);
}

void Buffer::fill(unsigned char value) {
  std::memset(bytes_.data(), value, bytes_.size());
}

}  // namespace verbena::test
