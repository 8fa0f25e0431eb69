// SPDX-License-Identifier: Apache-2.0
/// A completion channel: an eventfd that epoll can wait for, and the queues whose event waits to be fetched.
///
/// Peers hold the descriptor too and write to it when they have put something where an armed queue will find
/// it. Such a write is a hint: the fetching thread polls its armed queues itself and reports what it found.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "core/soft/shared_file.h"

namespace verbena::core::soft {

struct CompletionQueue;

struct CompletionChannel : ibv_comp_channel {
  explicit CompletionChannel(ibv_context* context);

  /// Tells it from all others of this process: never 0, never used again.
  const std::uint32_t number;

  /// Queues an event of `cq` and makes the descriptor readable.
  void notify(CompletionQueue& cq) noexcept;
  /// As ibv_get_cq_event(3).
  /// A thread that waits may be cancelled.
  int get(CompletionQueue** cq);
  void attach(CompletionQueue& cq);
  void detach(CompletionQueue& cq) noexcept;
  bool in_use() noexcept;

 private:
  CompletionQueue* pop() noexcept;
  void drain() noexcept;
  void poll_armed() noexcept;
  void settle() noexcept;

  Descriptor event_;
  std::mutex mutex_;       // leaf: nothing else is locked inside it
  std::mutex list_mutex_;  // guards queues_; queues are polled inside it
  std::deque<CompletionQueue*> events_;
  std::vector<CompletionQueue*> queues_;
};

/// Makes an eventfd readable; never blocks for long, never fails for the caller.
void wake(int event) noexcept;

}  // namespace verbena::core::soft
