// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace verbena::core {

/// The system's page size, in bytes.
inline std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

/// The addresses from `begin` up to, but without, `end`.
struct AddressRange {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  std::size_t size() const noexcept { return end - begin; }
  bool covers(AddressRange other) const noexcept { return begin <= other.begin && other.end <= end; }
  bool overlaps(AddressRange other) const noexcept { return begin < other.end && other.begin < end; }
  /// The smallest range that covers both.
  AddressRange joined(AddressRange other) const noexcept {
    return {std::min(begin, other.begin), std::max(end, other.end)};
  }
  /// The whole pages that it touches.
  AddressRange pages() const noexcept {
    const std::uintptr_t page = page_size();
    return {begin / page * page, (end + page - 1) / page * page};
  }

  friend bool operator==(AddressRange, AddressRange) = default;
};

}  // namespace verbena::core
