// SPDX-License-Identifier: Apache-2.0
/// A ring of posted receives. Its owner's lock guards it.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <memory>

#include "core/soft/spin_lock.h"

namespace verbena::core::soft {

inline constexpr std::uint32_t max_gather = 16;

/// A receive taken from its queue, with the message that fills it.
struct Receive {
  std::uint64_t wr_id = 0;
  std::uint32_t count = 0;
  std::array<ibv_sge, max_gather> pieces;
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
    if (size() == depth_) return ENOMEM;
    const std::uint32_t at = tail_ & (depth_ - 1);
    entries_[at] = {request.wr_id, static_cast<std::uint32_t>(request.num_sge)};
    std::copy_n(request.sg_list, request.num_sge, &pieces_[std::size_t{at} * gather_]);
    ++tail_;
    return 0;
  }
  bool take(Receive& receive) noexcept {
    if (head_ == tail_) return false;
    const std::uint32_t at = head_ & (depth_ - 1);
    receive.wr_id = entries_[at].wr_id;
    receive.count = entries_[at].count;
    std::copy_n(&pieces_[std::size_t{at} * gather_], receive.count, receive.pieces.begin());
    ++head_;
    return true;
  }
  void clear() noexcept { head_ = tail_; }
  std::uint32_t size() const noexcept { return tail_ - head_; }
  std::uint32_t depth() const noexcept { return depth_; }
  std::uint32_t gather() const noexcept { return gather_; }

 private:
  struct Entry {
    std::uint64_t wr_id;
    std::uint32_t count;
  };
  std::uint32_t depth_;
  std::uint32_t gather_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  std::unique_ptr<Entry[]> entries_;
  std::unique_ptr<ibv_sge[]> pieces_;
};

class Context;

struct SharedReceiveQueue : ibv_srq {
  SharedReceiveQueue(Context& owner, std::uint32_t depth, std::uint32_t gather)
      : ibv_srq{}, owner_context(owner), queue(depth, gather) {}
  Context& owner_context;
  SpinLock lock;  // taken inside a completion queue's lock, never around one
  ReceiveQueue queue;
  std::uint32_t limit = 0;  // 0: no event asked for
  std::uint32_t users = 0;  // queue pairs; guarded by the context's mutex

  bool take(Receive& receive) noexcept;
};

}  // namespace verbena::core::soft
