// SPDX-License-Identifier: Apache-2.0
/// A connection's work requests, from queueing to completion: preformatted, chained, signalled one in N.
#pragma once

#include <infiniband/verbs.h>

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/buffer_pool.h"
#include "verbena/operation.h"

namespace verbena::transport {

inline constexpr std::uint32_t max_pieces = 4;               // of the program, in one message
inline constexpr std::uint32_t max_gather = 1 + max_pieces;  // and the header before them
/// Bytes that a work request can carry itself; the device may allow fewer.
inline constexpr std::uint32_t staging_size = 192;
/// At most so many work requests go without a completion of their own; buffers come back that much later. A
/// loop's own interval: budget.h.
inline constexpr std::uint32_t longest_signal_interval = 16;

/// What a work request holds until it completes.
struct SendEntry {
  Operation* operation = nullptr;
  std::byte* buffer = nullptr;
  core::BufferPool* pool = nullptr;
  std::uint32_t bytes = 0;
};

/// A work request with all that it needs, side by side. Its id, its list and its followers are set once.
struct alignas(64) SendSlot {
  ibv_send_wr request{};
  SendSlot* following = nullptr;
  SendEntry entry;
  std::array<ibv_sge, max_gather> pieces;
  std::array<std::byte, staging_size> staging;
};
static_assert(std::is_trivially_destructible_v<SendSlot>);

/// Memory for the slots of all rings of a loop: address space for all that they may need, and of it used what
/// they have needed, one behind the other. So a slot can be had without fail in the middle of a turn.
/// Thread safety: none. It outlives the rings.
class SlotStore {
 public:
  static constexpr std::uint32_t at_once = 2;

  /// `depth`: as that of the rings. Throws Error.
  SlotStore(std::size_t rings, std::uint32_t depth);
  ~SlotStore();
  SlotStore(const SlotStore&) = delete;
  SlotStore& operator=(const SlotStore&) = delete;

  /// Memory for `at_once` slots.
  SendSlot* take() noexcept {
    assert(taken_ + at_once <= slots_ && "more rings, or deeper ones, than were declared");
    return memory_ + std::exchange(taken_, taken_ + at_once);
  }

 private:
  std::size_t slots_;
  std::size_t taken_ = 0;
  SendSlot* memory_;
};

/// Slots [head, posted) are the device's, [posted, tail) wait for flush().
/// Invariants: completions come in order, so that one for slot k is one for all up to k; `request.next` is
/// the following slot's request, but for the last of a chain while it is being posted; the ring is never
/// full; slots [0, prepared) have memory, next() among them: most peers never need more than a few.
class SendRing {
 public:
  /// `depth` is what the caller's reserves add up to: a ring that is full is the caller's mistake.
  SendRing(SlotStore& store, std::uint32_t depth, std::uint32_t signal_interval, std::uint32_t channel);

  /// The next slot, to be filled: opcode, flags, pieces or inline bytes, remote address, entry.
  SendSlot& next() noexcept { return *next_; }
  /// The one that was queued last; while has_queued().
  SendSlot& last() noexcept { return *last_; }
  /// Queues what next() was filled with.
  void push() noexcept {
    assert(size() < capacity() && "the reserves don't add up");
    last_ = next_;
    if (++tail_ == prepared_) [[unlikely]]
      prepare();
    next_ = last_->following;
    if (last_->entry.operation) wants_completion_ = true;
    if (++since_signal_ >= signal_interval_) [[unlikely]]
      signal_last();
  }
  bool has_queued() const noexcept { return posted_ != tail_; }
  bool is_empty() const noexcept { return head_ == tail_; }
  std::uint32_t size() const noexcept { return tail_ - head_; }
  std::uint32_t capacity() const noexcept { return mask_; }

  /// Posts what is queued, under one doorbell. 0 or errno: the queue pair is broken.
  int flush(ibv_qp* qp) noexcept {
    if (wants_completion_) signal_last();
    posted_ = tail_;
    last_->request.next = nullptr;
    ibv_send_wr* bad = nullptr;
    const int error = ibv_post_send(qp, &std::exchange(first_, next_)->request, &bad);
    last_->request.next = &next_->request;
    return error;
  }

  /// True if `id` is one of a ring's work requests.
  static bool owns(std::uint64_t id) noexcept { return (id & 3) == 2; }
  static std::uint32_t channel_of(std::uint64_t id) noexcept { return static_cast<std::uint32_t>(id >> 32); }
  /// How many slots a completion of `id` completes; 0 for one that isn't under way.
  std::uint32_t completed_by(std::uint64_t id) const noexcept {
    const std::uint32_t position = static_cast<std::uint32_t>(id) >> 2;
    const std::uint32_t count = ((position - head_) & mask_) + 1;
    return count <= posted_ - head_ ? count : 0;
  }
  /// The oldest entry; it stays as it is until the next push().
  const SendEntry& pop() noexcept {
    ++head_;
    return std::exchange(oldest_, oldest_->following)->entry;
  }
  /// Where all has completed, begins at the first slot again: the same few slots stay in the nearest cache.
  /// Stores leave a CPU in order, so that a message would wait for the lines of a slot that isn't there.
  void rewind_if_empty() noexcept {
    if (is_empty()) clear();
  }
  void clear() noexcept {
    head_ = posted_ = tail_ = since_signal_ = 0;
    wants_completion_ = false;
    oldest_ = first_ = next_ = last_ = slots_;
  }

 private:
  void prepare() noexcept;
  void signal_last() noexcept {
    last_->request.send_flags |= IBV_SEND_SIGNALED;
    since_signal_ = 0;
    wants_completion_ = false;
  }

  std::uint32_t mask_;
  std::uint32_t head_ = 0;
  std::uint32_t posted_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t prepared_ = 0;
  std::uint32_t since_signal_ = 0;
  bool wants_completion_ = false;
  SendSlot* oldest_ = nullptr;  // at head
  SendSlot* first_ = nullptr;   // at posted
  SendSlot* last_ = nullptr;    // before tail
  SendSlot* next_ = nullptr;    // at tail
  const std::uint32_t signal_interval_;
  const std::uint32_t channel_;
  SlotStore& store_;
  SendSlot* slots_ = nullptr;   // the first
  SendSlot* newest_ = nullptr;  // the last that is prepared
};

}  // namespace verbena::transport
