// SPDX-License-Identifier: Apache-2.0
/// A ring of posted sends, from posting to completion. Its completion queue's lock guards it.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>

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
  std::uint64_t swap;
  ibv_mw* window;
  ibv_mw_bind_info bind;
};

/// Requests stand in three runs: [head, next) carried out, [next, tail) waiting.
class SendQueue {
 public:
  SendQueue(std::uint32_t depth, std::uint32_t gather, std::uint32_t inline_size)
      : mask_(std::bit_ceil(std::max(depth, 1u)) - 1),
        depth_(depth),
        gather_(gather),
        inline_size_(inline_size),
        requests_(new SendRequest[mask_ + 1]),
        pieces_(new ibv_sge[std::size_t{mask_ + 1} * gather]),
        bytes_(new std::byte[std::size_t{mask_ + 1} * inline_size]) {}

  bool is_full() const noexcept { return tail - head == depth_; }
  bool is_empty() const noexcept { return head == tail; }
  bool has_waiting() const noexcept { return next != tail; }
  std::uint32_t depth() const noexcept { return depth_; }
  std::uint32_t gather() const noexcept { return gather_; }
  std::uint32_t inline_size() const noexcept { return inline_size_; }

  /// Where all has completed, begins at the first place again: the same few stay in the nearest cache.
  void rewind_if_empty() noexcept {
    if (is_empty()) head = next = tail = 0;
  }

  SendRequest& at(std::uint32_t position) noexcept { return requests_[position & mask_]; }
  ibv_sge* pieces(std::uint32_t position) noexcept {
    return &pieces_[std::size_t{position & mask_} * gather_];
  }
  std::byte* inline_bytes(std::uint32_t position) noexcept {
    return &bytes_[std::size_t{position & mask_} * inline_size_];
  }

  std::uint32_t head = 0;
  std::uint32_t next = 0;
  std::uint32_t tail = 0;

 private:
  std::uint32_t mask_;
  std::uint32_t depth_;
  std::uint32_t gather_;
  std::uint32_t inline_size_;
  std::unique_ptr<SendRequest[]> requests_;
  std::unique_ptr<ibv_sge[]> pieces_;
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace verbena::core::soft
