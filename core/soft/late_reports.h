// SPDX-License-Identifier: Apache-2.0
/// When each completion of a queue's ring may be reported, where a fault plan keeps them back.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

namespace verbena::core::soft {

/// Guarded by the completion queue's lock. Positions are those of its ring, ever growing.
class LateReports {
 public:
  /// `mask`: the ring's places, a power of two, less one.
  LateReports(std::int64_t delay_ns, std::uint32_t mask)
      : delay_ns_(delay_ns), mask_(mask), due_(new std::int64_t[mask + 1]) {}

  /// What has come up to `tail` since this was last called is due after the delay.
  void stamp(std::uint32_t tail, std::int64_t now) noexcept {
    for (; stamped_ != tail; ++stamped_) due_[stamped_ & mask_] = now + delay_ns_;
  }
  /// Of a stamped position.
  bool is_due(std::uint32_t position, std::int64_t now) const noexcept {
    return due_[position & mask_] <= now;
  }
  /// Positions from `tail` on have been taken back. Those that stay may be due earlier, none later.
  void take_back(std::uint32_t tail) noexcept {
    if (static_cast<std::int32_t>(stamped_ - tail) > 0) stamped_ = tail;
  }

  /// The ring is another one, of `mask` + 1 places; `head` to `tail` is in use.
  void resize(std::uint32_t mask, std::uint32_t head, std::uint32_t tail) {
    std::unique_ptr<std::int64_t[]> due(new std::int64_t[std::size_t{mask} + 1]);
    for (std::uint32_t at = head; at != tail; ++at) due[at & mask] = due_[at & mask_];
    due_ = std::move(due);
    mask_ = mask;
  }

  bool wants_event = false;  ///< the user is to be woken when the first one is due

 private:
  std::int64_t delay_ns_;
  std::uint32_t mask_;
  std::uint32_t stamped_ = 0;
  std::unique_ptr<std::int64_t[]> due_;
};

}  // namespace verbena::core::soft
