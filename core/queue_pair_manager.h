// SPDX-License-Identifier: Apache-2.0
/// Creates, reuses and retires queue pairs: one place that knows which exist, by number, and that frees none
/// before the device has let go of all that it points to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/queue_pair.h"

namespace verbena::core {

/// A queue pair is *active* from acquire() to retire(), *draining* until its drain marker has completed, then
/// *idle* and ready to be acquired again, or destroyed where more than `keep_idle` are.
///
/// Invariant: an idle or destroyed queue pair has no outstanding work request.
///
/// Draining: retire() fails the queue pair and posts a signalled drain marker to its send queue (which
/// flushes behind everything else). The loop hands each completion whose `wr_id` is `drain_marker` to
/// on_drained(). Receives come from a shared receive queue, so the send queue's drain and the QP's reset are
/// what is needed.
///
/// Thread safety: none; a manager belongs to one loop.
class QueuePairManager {
 public:
  /// `wr_id` of the drain markers: no operation has this address.
  static constexpr std::uint64_t drain_marker = 1;

  QueuePairManager(Device& device, ibv_pd* pd, ibv_cq* cq, ibv_srq* srq, const QueuePairOptions& options,
                   std::size_t keep_idle = 16);
  ~QueuePairManager();

  /// An initialised queue pair, reused where one is idle. Throws Error when the device has none left.
  QueuePair& acquire();
  /// Fails it and lets it drain. Its reference is dead for the caller.
  void retire(QueuePair& queue_pair) noexcept;
  /// The drain marker of queue pair `number` has completed.
  void on_drained(std::uint32_t number) noexcept;

  std::size_t active() const noexcept { return active_.size(); }
  std::size_t draining() const noexcept { return draining_.size(); }
  std::size_t idle() const noexcept { return idle_.size(); }

 private:
  Device& device_;
  ibv_pd* pd_;
  ibv_cq* cq_;
  ibv_srq* srq_;
  QueuePairOptions options_;
  std::size_t keep_idle_;
  std::unordered_map<std::uint32_t, std::unique_ptr<QueuePair>> active_;
  std::unordered_map<std::uint32_t, std::unique_ptr<QueuePair>> draining_;
  std::vector<std::unique_ptr<QueuePair>> idle_;
};

}  // namespace verbena::core
