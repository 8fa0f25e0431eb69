// SPDX-License-Identifier: Apache-2.0
/// What an extended completion queue (`ibv_create_cq_ex(3)`) has besides a plain one's: the completion that
/// its user reads field by field, and when each came.
///
/// Between start_poll and end_poll one thread at a time reads. A completion's time is that of the first look
/// at the queue after it came: of a poll, of arming, or of the agent.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>

#include "core/soft/extended_face.h"
#include "core/soft/spin_lock.h"

namespace verbena::core::soft {

struct CompletionQueue;

using CompletionQueueFace = ExtendedFace<ibv_cq, ibv_cq_ex>;
static_assert(sizeof(CompletionQueueFace) == sizeof(ibv_cq_ex));

/// IBV_WC_EX_WITH_* that say when a completion came.
inline constexpr std::uint64_t times =
    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK;
/// Those that there is something to tell of. All else belongs to Ethernet, or to tag matching.
inline constexpr std::uint64_t readable_fields = std::uint64_t{IBV_WC_STANDARD_FLAGS} | times;

/// Guarded by the completion queue's lock, but for `current` and `came_at`, which are the polling thread's.
class ExtendedPolling {
 public:
  /// `mask`: of the completion queue's ring, its places less one. Makes `cq` an ibv_cq_ex whose user may read
  /// `fields`.
  ExtendedPolling(CompletionQueue& cq, std::uint64_t fields, bool single_threaded, std::uint32_t mask);

  bool wants_times() const noexcept { return stamps_ != nullptr; }
  /// What has come up to `tail` since the last call came `now`, in ns of CLOCK_MONOTONIC.
  void stamp(std::uint32_t tail, std::int64_t now) noexcept {
    for (; stamped_ != tail; ++stamped_) stamps_[stamped_ & mask_] = now;
  }
  std::int64_t time_of(std::uint32_t position) const noexcept { return stamps_[position & mask_]; }
  /// A completion has moved to a place further in front.
  void move(std::uint32_t from, std::uint32_t to) noexcept {
    if (stamps_) stamps_[to & mask_] = stamps_[from & mask_];
  }
  /// Positions from `tail` on have been taken back.
  void take_back(std::uint32_t tail) noexcept {
    if (static_cast<std::int32_t>(stamped_ - tail) > 0) stamped_ = tail;
  }
  /// The ring is another one, of `mask` + 1 places; `head` to `tail` is in use.
  void resize(std::uint32_t mask, std::uint32_t head, std::uint32_t tail);

  ibv_wc current{};
  std::int64_t came_at = 0;

 private:
  static int start(ibv_cq_ex* face, ibv_poll_cq_attr* attr) noexcept;
  static int next(ibv_cq_ex* face) noexcept;
  static void end(ibv_cq_ex* face) noexcept;

  const bool single_threaded_;
  SpinLock polling_;  // from start_poll to end_poll
  std::uint32_t mask_;
  std::uint32_t stamped_ = 0;
  std::unique_ptr<std::int64_t[]> stamps_;  // null where nobody asked for times
};

}  // namespace verbena::core::soft
