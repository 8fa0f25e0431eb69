// SPDX-License-Identifier: Apache-2.0
/// Receives that several queue pairs take from.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/soft/receive_queue.h"
#include "core/soft/spin_lock.h"
#include "core/soft/xrc_domain.h"

namespace verbena::core::soft {

class Context;
struct CompletionQueue;

/// `lock` guards posting, and taking once queue pairs of several completion queues take. As long as all of
/// them complete to one, whoever takes holds that queue's lock, which is guard enough.
struct SharedReceiveQueue : ibv_srq {
  SharedReceiveQueue(Context& owner, std::uint32_t depth, std::uint32_t gather)
      : ibv_srq{}, owner_context(owner), queue(depth, gather) {}

  int post(ibv_recv_wr* request, ibv_recv_wr** bad) noexcept;
  /// Under the lock of the taker's completion queue.
  bool take(Receive& receive) noexcept;
  /// The queue, where the holder of its completion queue's lock may take from it as it likes; else nullptr.
  ReceiveQueue* exclusive() noexcept { return many_take_.load(std::memory_order_relaxed) ? nullptr : &queue; }
  /// To be called after each taking.
  void check_limit() noexcept {
    if (limit.load(std::memory_order_relaxed) != 0) [[unlikely]]
      tell_limit();
  }

  /// A queue pair that completes to `cq` will take, or takes no more. Under the context's mutex.
  void add_user(CompletionQueue& cq) noexcept;
  void remove_user() noexcept;
  bool has_users() const noexcept { return users_ != 0; }
  /// Whoever takes guards itself by `lock`, as of several completion queues. Before anybody takes.
  void open_to_all() noexcept { many_take_.store(true, std::memory_order_relaxed); }

  Context& owner_context;
  SpinLock lock;  // taken inside a completion queue's lock, never around one
  ReceiveQueue queue;
  std::atomic<std::uint32_t> limit{0};  // 0: no event asked for
  // Of an XRC one; else 0, null.
  std::uint32_t number = 0;
  std::uint16_t domain = 0;
  CompletionQueue* completions = nullptr;
  std::shared_ptr<XrcSpace> xrc_space;

 private:
  void tell_limit() noexcept;

  // Both guarded by the context's mutex. Invariant: while !many_take_ and there are users, all of them
  // complete to taker_, which therefore lives.
  std::uint32_t users_ = 0;
  CompletionQueue* taker_ = nullptr;
  std::atomic<bool> many_take_{false};  // is set under taker_'s lock: relaxed will do
};

}  // namespace verbena::core::soft
