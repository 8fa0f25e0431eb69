// SPDX-License-Identifier: Apache-2.0
/// Memory that is mapped for the cache alone: zeroed, never watched, and never unmapped before it is
/// destroyed.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace verbena::core {

/// Aligned to huge pages, and on such where the kernel has them to give: what lies in it is met at random.
class OwnMemory {
 public:
  static constexpr std::size_t alignment = std::size_t{2} << 20;

  OwnMemory() = default;
  /// `size` in bytes. Throws std::bad_alloc.
  explicit OwnMemory(std::size_t size) : size_(size + alignment) {
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base_ == MAP_FAILED) {
      base_ = nullptr;
      throw std::bad_alloc{};
    }
    if (size >= alignment) madvise(data(), size, MADV_HUGEPAGE);  // a wish
  }
  OwnMemory(OwnMemory&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  OwnMemory& operator=(OwnMemory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~OwnMemory() {
    if (base_ != nullptr) munmap(base_, size_);
  }

  void* data() const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(base_);
    return reinterpret_cast<void*>((address + alignment - 1) / alignment * alignment);
  }

 private:
  void* base_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace verbena::core
