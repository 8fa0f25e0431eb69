// SPDX-License-Identifier: Apache-2.0
/// A completion queue, polled in batches, with its completion channel.
#pragma once

#include <span>

#include "core/device.h"
#include "core/handle.h"

namespace verbena::core {

/// Thread safety: as verbs. Lifetime: the device outlives it, and it outlives its queue pairs.
class CompletionQueue {
 public:
  /// `depth` is the most completions that can wait at once: an itemised sum of what can be posted.
  CompletionQueue(Device& device, int depth);

  /// Fills `batch` from its front; returns how many, or a negative value if the queue itself failed.
  int poll(std::span<ibv_wc> batch) noexcept {
    return ibv_poll_cq(cq_.get(), static_cast<int>(batch.size()), batch.data());
  }
  /// Asks for one event at the next completion. Poll once more after arming and before sleeping: what came in
  /// between raises no event.
  int arm() noexcept { return ibv_req_notify_cq(cq_.get(), 0); }
  /// Non-blocking: takes and acknowledges the events that wait; true if there was any.
  bool consume_events() noexcept;

  /// Readable while an event waits; non-blocking.
  int descriptor() const noexcept { return channel_->fd; }
  ibv_cq* get() const noexcept { return cq_.get(); }
  int depth() const noexcept { return cq_->cqe; }

 private:
  Device& device_;
  Handle<ibv_comp_channel> channel_;
  Handle<ibv_cq> cq_;
};

}  // namespace verbena::core
