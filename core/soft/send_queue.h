// SPDX-License-Identifier: Apache-2.0
/// A ring of posted sends, from posting to completion. Its completion queue's lock guards it.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "core/soft/datagram_port.h"

namespace verbena::core::soft {

struct SendRequest {
  enum class Stage : std::uint8_t {
    waiting,   ///< not carried out, or only in part: `moved` bytes
    sent,      ///< in the ring; done when the peer has consumed up to `end`
    answered,  ///< done
  };
  std::uint64_t wr_id;
  Stage stage;
  bool signalled;
  bool is_inline;
  bool fenced;
  bool placed;         ///< its bytes have been written; its notice hasn't been sent
  bool asked;          ///< a request to the target is under way
  std::uint8_t flags;  ///< slot_flag
  ibv_wr_opcode opcode;
  std::uint32_t end;
  std::uint32_t length;
  std::uint32_t moved;
  std::uint32_t pieces;
  std::uint32_t immediate;  ///< immediate data in network order, or a key to invalidate
  std::uint32_t rkey;
  std::uint64_t remote_address;
  std::uint64_t compare_add;
  std::uint64_t
      swap;  ///< of a datagram: since when it waits, in ns; of an XRC message: whose receive queue it is for
  ibv_mw* window;
  union {
    ibv_mw_bind_info bind;
    DatagramPath path;  ///< of a datagram
  };
};
static_assert(std::is_trivial_v<SendRequest> && sizeof(SendRequest) % alignof(ibv_sge) == 0);

/// Requests stand in two runs: [head, next) carried out, [next, tail) waiting. A queue begins with a few
/// places and grows where they don't suffice, up to its depth: most queue pairs have little under way.
class SendQueue {
 public:
  SendQueue(std::uint32_t depth, std::uint32_t gather, std::uint32_t inline_size)
      : mask_(std::min(std::bit_ceil(std::max(depth, 1u)), first_places) - 1),
        limit_(std::min(depth, mask_ + 1)),
        depth_(depth),
        gather_(gather),
        inline_size_(inline_size),
        stride_((sizeof(SendRequest) + std::max(gather * sizeof(ibv_sge), sizeof(ibv_sge) + inline_size) +
                 line - 1) /
                line * line),
        places_(static_cast<std::byte*>(
            ::operator new ((std::size_t{mask_} + 1) * stride_, std::align_val_t{line}))) {}

  /// It may yet grow.
  bool is_full() const noexcept { return tail - head == limit_; }
  /// Twice as many places. False at its depth, or without memory. Invalidates what at() and its like
  /// returned.
  bool grow() noexcept {
    if (limit_ == depth_) return false;
    const std::uint32_t wider = mask_ * 2 + 1;
    std::unique_ptr<std::byte, Free> places(static_cast<std::byte*>(
        ::operator new ((std::size_t{wider} + 1) * stride_, std::align_val_t{line}, std::nothrow)));
    if (!places) return false;
    places_.swap(places);
    const std::uint32_t narrower = std::exchange(mask_, wider);
    limit_ = std::min(depth_, wider + 1);
    for (std::uint32_t position = head; position != tail; ++position) {
      std::memcpy(place(position), places.get() + (position & narrower) * stride_, stride_);
      if (static_cast<std::int32_t>(position - next) >= 0 &&
          at(position).is_inline)  // waits: its bytes are wanted
        pieces(position)->addr = reinterpret_cast<std::uint64_t>(inline_bytes(position));
    }
    return true;
  }
  /// Room for as many more. False at its depth, or without memory. Invalidates as grow() does.
  bool make_room(std::uint32_t count) noexcept {
    while (limit_ - (tail - head) < count) {
      if (!grow()) return false;
    }
    return true;
  }
  bool is_empty() const noexcept { return head == tail; }
  bool has_waiting() const noexcept { return next != tail; }
  std::uint32_t depth() const noexcept { return depth_; }
  std::uint32_t gather() const noexcept { return gather_; }
  std::uint32_t inline_size() const noexcept { return inline_size_; }

  /// Where all has completed, begins at the first place again: the same few stay in the nearest cache.
  void rewind_if_empty() noexcept {
    if (is_empty()) head = next = tail = 0;
  }

  // A place is a request and its pieces, or its one piece and the inline bytes that this means. Side by side:
  // a queue pair that has few of them touches few lines.
  SendRequest& at(std::uint32_t position) noexcept {
    return *reinterpret_cast<SendRequest*>(place(position));
  }
  ibv_sge* pieces(std::uint32_t position) noexcept {
    return reinterpret_cast<ibv_sge*>(place(position) + sizeof(SendRequest));
  }
  std::byte* inline_bytes(std::uint32_t position) noexcept {
    return place(position) + sizeof(SendRequest) + sizeof(ibv_sge);
  }

  std::uint32_t head = 0;
  std::uint32_t next = 0;
  std::uint32_t tail = 0;

 private:
  static constexpr std::uint32_t first_places = 4;
  static constexpr std::size_t line = 64;
  struct Free {
    void operator()(std::byte* places) const noexcept { ::operator delete (places, std::align_val_t{line}); }
  };
  std::byte* place(std::uint32_t position) const noexcept {
    return places_.get() + (position & mask_) * stride_;
  }

  std::uint32_t mask_;   // places, less one
  std::uint32_t limit_;  // requests that fit now
  std::uint32_t depth_;
  std::uint32_t gather_;
  std::uint32_t inline_size_;
  std::size_t stride_;
  std::unique_ptr<std::byte, Free> places_;
};

}  // namespace verbena::core::soft
