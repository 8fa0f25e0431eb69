// SPDX-License-Identifier: Apache-2.0
/// A message as a gather list: long memory stays where it lies, short things are copied together.
///
/// An encoder writes into it from front to back. Allocates nothing until it has more pieces, or more short
/// things, than there is room for: then it goes over to one buffer of its own, and is as right as before.
/// Throws nothing but std::bad_alloc. Thread: one at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

namespace verbena {

class Pieces {
 public:
  /// The most that a list has.
  static constexpr std::size_t max_pieces = 16;
  /// Bytes of short things, lengths and padding.
  static constexpr std::size_t scratch_size = 256;
  /// Bytes up to which copying costs less than one more piece: a cache line.
  static constexpr std::size_t copied_up_to = 64;
  /// Bytes; the most that pad() aligns to. A message's payload begins at a multiple of it.
  static constexpr std::size_t max_alignment = 16;
  static_assert(copied_up_to <= scratch_size && max_alignment <= scratch_size);

  Pieces() noexcept {}             // leaves the places of pieces and scratch as they are: 512 bytes
  Pieces(const Pieces&) = delete;  // pieces point into the scratch
  Pieces& operator=(const Pieces&) = delete;

  /// Lifetime: `bytes` stays unchanged as long as the message is in use; see rpc::Client::call.
  void borrow(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    if (flattened_ || count_ == max_pieces) [[unlikely]]
      return copy(bytes);
    add(bytes);
    tail_is_scratch_ = false;
  }
  /// `bytes` is the caller's again on return.
  void copy(std::span<const std::byte> bytes) {
    if (!bytes.empty()) std::memcpy(room(bytes.size()).data(), bytes.data(), bytes.size());
  }
  /// The next `count` bytes, for the caller to fill in before anything else is written.
  std::span<std::byte> room(std::size_t count) {
    const bool fits = count <= scratch_size - scratch_used_ && (tail_is_scratch_ || count_ < max_pieces);
    if (flattened_ || !fits) [[unlikely]]
      return grow(count);
    const std::span<std::byte> room{scratch_ + scratch_used_, count};
    if (count == 0) return room;
    scratch_used_ += count;
    if (!tail_is_scratch_) {
      add(room);
      tail_is_scratch_ = true;
    } else {
      const std::span<const std::byte> tail = pieces_[count_ - 1];
      pieces_[count_ - 1] = {tail.data(), tail.size() + count};
      size_ += count;
    }
    return room;
  }
  /// Copies what is short and borrows what is long; lifetime as for borrow().
  void put(std::span<const std::byte> bytes) { bytes.size() <= copied_up_to ? copy(bytes) : borrow(bytes); }
  /// A number of 8 bytes, such as a length.
  void number(std::uint64_t value) { copy(std::as_bytes(std::span{&value, 1})); }
  /// Zero bytes up to the next multiple of `alignment`, a power of two up to max_alignment, from the
  /// message's beginning.
  void pad(std::size_t alignment) {
    static constexpr std::byte zeros[max_alignment]{};
    copy({zeros, -size_ & (alignment - 1)});
  }

  /// A number that is written before its value is known.
  class Place {
    friend class Pieces;
    std::size_t in_message, in_scratch;
  };
  Place leave_number() {
    Place place;
    place.in_message = size_;
    place.in_scratch = scratch_used_;
    number(0);
    return place;
  }
  void set_number(Place place, std::uint64_t value) noexcept {
    std::byte* const to = flattened_ ? flat_.get() + place.in_message : scratch_ + place.in_scratch;
    std::memcpy(to, &value, sizeof value);
  }

  /// Bytes of the whole message.
  std::size_t size() const noexcept { return size_; }
  /// The message, in order, without empty pieces. Valid until the next change of this.
  std::span<const std::span<const std::byte>> list() const noexcept { return {pieces_, count_}; }
  /// Whether there was no room for it as pieces (or flat() was called), so that everything was copied.
  bool flattened() const noexcept { return flattened_; }
  /// Whether nothing was copied: every piece is borrowed.
  bool borrowed() const noexcept { return scratch_used_ == 0 && !flattened_; }
  /// The message as one piece: where it lies if it is one already, else everything is copied.
  std::span<const std::byte> flat() {
    if (count_ > 1) grow(0);
    return count_ == 0 ? std::span<const std::byte>{} : pieces_[0];
  }

 private:
  void add(std::span<const std::byte> bytes) noexcept {
    std::construct_at(&pieces_[count_++], bytes);
    size_ += bytes.size();
  }
  // The slow way: at the end of the own buffer.
  std::span<std::byte> grow(std::size_t count) {
    if (!flattened_ || count > capacity_ - size_) flatten(size_ + count);
    const std::span<std::byte> room{flat_.get() + size_, count};
    size_ += count;
    count_ = size_ == 0 ? 0 : 1;
    std::construct_at(&pieces_[0], flat_.get(), size_);
    return room;
  }
  // Everything so far goes into a buffer with room for `least` bytes, and for as many again.
  void flatten(std::size_t least) {
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(2 * least);
    std::byte* to = buffer.get();
    for (const auto piece : list()) to = std::ranges::copy(piece, to).out;
    flat_ = std::move(buffer);
    capacity_ = 2 * least;
    flattened_ = true;
  }

  union {  // made one by one: an unused place costs nothing
    std::span<const std::byte> pieces_[max_pieces];
  };
  std::size_t count_ = 0;
  std::size_t size_ = 0;
  std::size_t scratch_used_ = 0;
  bool tail_is_scratch_ = false;
  bool flattened_ = false;
  std::size_t capacity_ = 0;  // of flat_
  std::unique_ptr<std::byte[]> flat_;
  alignas(max_alignment) std::byte scratch_[scratch_size];
};

}  // namespace verbena
