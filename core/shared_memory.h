// SPDX-License-Identifier: Apache-2.0
/// Page-aligned memory that a peer on this host may map: a sealed memfd, mapped; huge pages where they can be
/// had.
#pragma once

#include <cstddef>
#include <span>

#include "core/device.h"

namespace verbena::core {

/// Zeroed at first. Freed with its last mapping, however its processes die.
class SharedMemory {
 public:
  SharedMemory() = default;
  /// `length` in bytes, rounded up to pages. Throws Error (device_failed) with the reason and the limit met.
  explicit SharedMemory(std::size_t length, bool huge_pages = true);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::span<std::byte> bytes() const noexcept { return {data_, size_}; }
  bool huge_pages() const noexcept { return huge_; }
  /// For Device::reg_shared_mr.
  SharedRange range() const noexcept { return {fd_, 0, data_, size_}; }

 private:
  int fd_ = -1;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool huge_ = false;
};

}  // namespace verbena::core
