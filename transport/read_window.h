// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace verbena::transport {

/// Reads of large messages that a loop has under way into its own memory: enough to keep a link busy, and no
/// more, so that the memory that one was read to is used again while it is in a cache.
class ReadWindow {
 public:
  static constexpr std::size_t enough = std::size_t{256} << 10;  ///< bytes: 100 Gbit/s for 20 µs

  /// `fewest`: so many may be under way however long they are. 1 where a read is a copy by this very thread,
  /// 2 where a device goes on with the next one by itself.
  explicit ReadWindow(std::size_t fewest) noexcept : fewest_(fewest) {}

  bool has_room(std::size_t length) const noexcept { return reads_ < fewest_ || bytes_ + length <= enough; }
  void begin(std::size_t length) noexcept {
    ++reads_;
    bytes_ += length;
  }
  void end(std::size_t length) noexcept {
    --reads_;
    bytes_ -= length;
  }

 private:
  const std::size_t fewest_;
  std::size_t reads_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace verbena::transport
