// SPDX-License-Identifier: Apache-2.0
/// Reads a message from front to back. Whatever the bytes are, it never goes beyond them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace verbena {

/// The counterpart of Pieces. A wrong read gives nothing, and so does every read after it. Lifetime: what it
/// gives points into the message. Thread: one at a time.
class Reader {
 public:
  /// Alignment is reckoned from the message's beginning; a payload begins at a multiple of
  /// Pieces::max_alignment.
  explicit Reader(std::span<const std::byte> message) noexcept : message_(message) {}

  /// The next `count` bytes.
  std::optional<std::span<const std::byte>> take(std::size_t count) noexcept {
    if (failed_ || count > left()) [[unlikely]] {
      fail();
      return std::nullopt;
    }
    const auto bytes = message_.subspan(at_, count);
    at_ += count;
    return bytes;
  }
  /// Skips what Pieces::pad() has written; false where that isn't zero.
  bool skip_padding(std::size_t alignment) noexcept {
    const std::size_t length = -at_ & (alignment - 1);
    if (length == 0) return !failed_;
    const auto padding = take(length);
    if (padding && std::ranges::all_of(*padding, [](std::byte b) { return b == std::byte{0}; })) return true;
    fail();
    return false;
  }
  /// A length or a count of things that follow; none where they couldn't: of `each` bytes at least, they
  /// would be longer than what is left. So what is allocated for them is in proportion to the message.
  std::optional<std::size_t> count(std::size_t each) noexcept {
    const auto bytes = take(sizeof(std::uint64_t));
    if (!bytes) return std::nullopt;
    std::uint64_t value;
    std::memcpy(&value, bytes->data(), sizeof value);
    if (value > left() / each) [[unlikely]] {
      fail();
      return std::nullopt;
    }
    return static_cast<std::size_t>(value);
  }

  /// Bytes not yet read.
  std::size_t left() const noexcept { return message_.size() - at_; }
  /// Everything was read, and nothing was wrong.
  bool done() const noexcept { return !failed_ && left() == 0; }
  /// Nothing can be read from here on.
  void fail() noexcept {
    failed_ = true;
    at_ = message_.size();
  }

 private:
  std::span<const std::byte> message_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace verbena
