// SPDX-License-Identifier: Apache-2.0
/// XRC: many queue pairs that only receive, and shared receive queues that a sender names with each message.
///
/// An XRC domain ties the two together. One that was opened with a file is the same for all who open it with
/// that file, within one opened device: the queues of another process stay its own.
#pragma once

#include <infiniband/verbs.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace verbena::core::soft {

struct CompletionQueue;
struct SharedReceiveQueue;

inline constexpr std::uint32_t max_xrc_receive_queues = 1024;

/// Guarded by the context's mutex.
struct XrcSpace {
  dev_t device = 0;  ///< of its file; 0: it has none
  ino_t file = 0;
  std::vector<SharedReceiveQueue*> receive_queues;  ///< the oldest first
  std::size_t queue_pairs = 0;
  /// What the queue pairs borrow, while there are any.
  CompletionQueue* home = nullptr;
  ibv_pd* home_domain = nullptr;

  void be_helped();       ///< the first queue pair has come
  void leave() noexcept;  ///< a queue pair goes
  void remove(SharedReceiveQueue& queue) noexcept;
};

struct XrcDomain : ibv_xrcd {
  std::shared_ptr<XrcSpace> space;
};

}  // namespace verbena::core::soft
