// SPDX-License-Identifier: Apache-2.0
/// A connection's work requests, from queueing to completion: preformatted, chained, signalled one in N.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/buffer_pool.h"
#include "verbena/operation.h"

namespace verbena::transport {

inline constexpr std::uint32_t max_pieces = 4;               // of the program, in one message
inline constexpr std::uint32_t max_gather = 1 + max_pieces;  // and the header before them
/// Bytes that a work request can carry itself; the device may allow fewer.
inline constexpr std::uint32_t staging_size = 192;
/// At most so many work requests go without a completion of their own; buffers come back that much later.
inline constexpr std::uint32_t signal_interval = 16;

/// What a work request holds until it completes.
struct SendEntry {
  Operation* operation = nullptr;
  std::byte* buffer = nullptr;
  core::BufferPool* pool = nullptr;
  std::uint32_t bytes = 0;
};

/// Entries [head, posted) are the device's, [posted, tail) wait for flush().
/// Invariant: completions come in order, so that one for entry k is one for all up to k.
class SendRing {
 public:
  /// `depth` is what the caller's reserves add up to: a ring that is full is the caller's mistake.
  SendRing(std::uint32_t depth, std::uint32_t channel);

  /// The next work request, to be filled: opcode, pieces or inline bytes, remote address.
  ibv_send_wr& next() noexcept { return requests_[tail_ & mask_]; }
  ibv_sge* pieces() noexcept { return &pieces_[std::size_t{tail_ & mask_} * max_gather]; }
  std::byte* staging() noexcept { return &staging_[std::size_t{tail_ & mask_} * staging_size]; }
  /// Queues what next() was filled with.
  void push(const SendEntry& entry) noexcept {
    entries_[tail_ & mask_] = entry;
    if (entry.operation) wants_completion_ = true;
    if (tail_ != posted_) requests_[(tail_ - 1) & mask_].next = &requests_[tail_ & mask_];
    ++tail_;
  }
  bool has_queued() const noexcept { return posted_ != tail_; }
  bool is_empty() const noexcept { return head_ == tail_; }
  std::uint32_t size() const noexcept { return tail_ - head_; }
  std::uint32_t capacity() const noexcept { return mask_ + 1; }

  /// Posts what is queued, under one doorbell. 0 or errno: the queue pair is broken.
  int flush(ibv_qp* qp) noexcept;

  /// True if `id` is one of a ring's work requests.
  static bool owns(std::uint64_t id) noexcept { return (id & 3) == 2; }
  static std::uint32_t channel_of(std::uint64_t id) noexcept { return static_cast<std::uint32_t>(id >> 32); }
  /// How many entries a completion of `id` completes; 0 for one that isn't under way.
  std::uint32_t completed_by(std::uint64_t id) const noexcept {
    const std::uint32_t position = static_cast<std::uint32_t>(id) >> 2;
    const std::uint32_t count = ((position - head_) & mask_) + 1;
    return count <= posted_ - head_ ? count : 0;
  }
  SendEntry pop() noexcept { return entries_[head_++ & mask_]; }
  void clear() noexcept { head_ = posted_ = tail_ = since_signal_ = 0; }

 private:
  std::uint32_t mask_;
  std::uint32_t head_ = 0;
  std::uint32_t posted_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t since_signal_ = 0;
  bool wants_completion_ = false;
  std::unique_ptr<SendEntry[]> entries_;
  std::unique_ptr<ibv_send_wr[]> requests_;
  std::unique_ptr<ibv_sge[]> pieces_;
  std::unique_ptr<std::byte[]> staging_;
};

}  // namespace verbena::transport
