// SPDX-License-Identifier: Apache-2.0
/// A ring of posted receives: one thread at a time posts, one at a time takes, and the two may be at it
/// together. Their owners' locks see to the former.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>

namespace verbena::core::soft {

inline constexpr std::uint32_t max_gather = 16;

/// A receive taken from its queue, with the message that fills it.
struct Receive {
  std::uint64_t wr_id = 0;
  std::uint32_t count = 0;
  std::array<ibv_sge, max_gather> pieces;

  std::span<const ibv_sge> list() const noexcept { return {pieces.data(), count}; }
};

class ReceiveQueue {
 public:
  /// `depth` is rounded up to a power of two.
  ReceiveQueue(std::uint32_t depth, std::uint32_t gather)
      : depth_(std::bit_ceil(std::max(depth, 1u))),
        gather_(gather),
        entries_(new Entry[depth_]),
        pieces_(new ibv_sge[std::size_t{depth_} * gather]) {}

  /// 0, EINVAL (too many pieces) or ENOMEM (full).
  int post(const ibv_recv_wr& request) noexcept {
    if (request.num_sge < 0 || static_cast<std::uint32_t>(request.num_sge) > gather_) return EINVAL;
    const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == depth_) return ENOMEM;  // pairs with pop
    const std::uint32_t at = tail & (depth_ - 1);
    entries_[at] = {request.wr_id, static_cast<std::uint32_t>(request.num_sge)};
    std::copy_n(request.sg_list, request.num_sge, &pieces_[std::size_t{at} * gather_]);
    tail_.store(tail + 1, std::memory_order_release);  // the entry, then its being there
    return 0;
  }

  /// The oldest, in place, until pop(); `pieces` is null where there is none.
  struct Front {
    std::uint64_t wr_id;
    std::uint32_t count;
    const ibv_sge* pieces;
  };
  Front front() const noexcept {
    const std::uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return {0, 0, nullptr};  // pairs with post
    const std::uint32_t at = head & (depth_ - 1);
    return {entries_[at].wr_id, entries_[at].count, &pieces_[std::size_t{at} * gather_]};
  }
  /// Release: its entry has been read, and may be written over.
  void pop() noexcept { head_.store(head_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
  bool take(Receive& receive) noexcept {
    const Front first = front();
    if (!first.pieces) return false;
    receive.wr_id = first.wr_id;
    receive.count = first.count;
    std::copy_n(first.pieces, first.count, receive.pieces.begin());
    pop();
    return true;
  }
  void clear() noexcept { head_.store(tail_.load(std::memory_order_relaxed), std::memory_order_relaxed); }
  /// May be out of date at once where others post or take.
  std::uint32_t size() const noexcept {
    const std::uint32_t head = head_.load(std::memory_order_acquire);
    return tail_.load(std::memory_order_acquire) - head;
  }
  std::uint32_t depth() const noexcept { return depth_; }
  std::uint32_t gather() const noexcept { return gather_; }

 private:
  struct Entry {
    std::uint64_t wr_id;
    std::uint32_t count;
  };
  std::uint32_t depth_;
  std::uint32_t gather_;
  std::atomic<std::uint32_t> head_{0};
  std::atomic<std::uint32_t> tail_{0};
  std::unique_ptr<Entry[]> entries_;
  std::unique_ptr<ibv_sge[]> pieces_;
};

}  // namespace verbena::core::soft
