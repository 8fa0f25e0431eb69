// SPDX-License-Identifier: Apache-2.0
/// Hands out a fixed range of memory in blocks whose sizes are powers of two: the buddy system, by offsets.
///
/// Blocks that come back are kept under their size, which is the next take's, and are joined with their
/// neighbours only when a take finds nothing else. What it knows of its blocks stands beside the memory, not
/// in it: the memory itself may be a peer's to write.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/cache/own_memory.h"

namespace verbena::core {

/// Thread safety: give() from any thread; all else by one thread at a time. Nothing is allocated after
/// construction. A block of 2^n bytes begins at a multiple of 2^n.
class BuddyAllocator {
 public:
  /// Bytes of the smallest block: a cache line, so that two blocks never share one.
  static constexpr std::size_t smallest = 64;
  static constexpr std::size_t most_bytes = std::size_t{1} << 37;  ///< so that 31 bits number the lines

  /// Of `bytes`, cut down to whole blocks; at most most_bytes. Throws std::bad_alloc.
  explicit BuddyAllocator(std::size_t bytes);

  /// Where a free block of at least `length` bytes begins; nothing where none is left. Cost: a few loads and
  /// stores; where blocks have to be split, the number of sizes; where they have to be joined, once a give,
  /// the number of blocks.
  std::optional<std::size_t> take(std::size_t length) noexcept;
  /// Takes back the block at `offset`, once. Cost: one locked instruction.
  void give(std::size_t offset) noexcept;

  std::size_t capacity() const noexcept { return lines_ * smallest; }
  /// Bytes of the blocks that are out, rounded up as they are.
  std::size_t in_use() noexcept {
    collect();
    return in_use_;
  }
  /// The most of that there ever was at a take.
  std::size_t most_in_use() const noexcept { return most_in_use_; }

 private:
  using Line = std::uint32_t;  // the number of a piece of `smallest` bytes
  static constexpr Line none = ~Line{0};
  static constexpr std::size_t orders = 32;
  /// What the first line of a block says: its order, and which of the two it is. 0 elsewhere.
  static constexpr std::uint8_t taken = 0x40;
  static constexpr std::uint8_t free = 0x80;
  static constexpr std::uint8_t order_mask = 0x3f;

  static unsigned order_for(std::size_t length) noexcept;
  void push(Line line, unsigned order) noexcept;
  Line pop(unsigned order) noexcept;
  void put_joined(Line line, unsigned order) noexcept;
  void collect() noexcept;
  bool refill(unsigned order) noexcept;
  bool split(unsigned order) noexcept;
  void join_all() noexcept;

  std::size_t lines_;
  OwnMemory states_memory_;  // touched where it is used, as the range itself
  OwnMemory next_memory_;
  std::uint8_t* states_;
  Line* next_;                       // in a list of free blocks, or of those that have come back
  std::array<Line, orders> free_{};  // by order
  std::size_t in_use_ = 0;           // with what has come back and isn't collected
  std::size_t most_in_use_ = 0;
  bool worth_joining_ = false;  // something has come back since blocks were last joined
  /// A stack of what has come back; takers take it as a whole, so that none can be on it twice.
  alignas(64) std::atomic<Line> returned_{none};
};

}  // namespace verbena::core
