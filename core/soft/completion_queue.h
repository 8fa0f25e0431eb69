// SPDX-License-Identifier: Apache-2.0
/// A completion queue, and the progress of the queue pairs that complete to it.
///
/// Its lock guards the queue, the send queues that complete to it and the receive queues that complete to it.
/// Whoever polls makes progress: takes in what peers have put into rings, and retires what peers have
/// consumed. A queue never overflows: what finds no room stays where it is until the queue is polled.
#pragma once

#include <infiniband/verbs.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/soft/biased_lock.h"
#include "core/soft/completion_channel.h"
#include "core/soft/extended_polling.h"
#include "core/soft/late_reports.h"
#include "core/soft/layout.h"

namespace verbena::core::soft {

class Context;
struct QueuePair;

struct CompletionQueue : CompletionQueueFace {
  CompletionQueue(Context& owner, std::uint32_t queue_index, int entries, void* cq_context,
                  CompletionChannel* channel);

  int poll(int count, ibv_wc* completions) noexcept;
  /// The same where a fault plan keeps completions back.
  int poll_late(int count, ibv_wc* completions) noexcept;
  int arm(bool solicited_only) noexcept;

  /// Makes it an ibv_cq_ex; once, before anybody knows it.
  void extend(std::uint64_t fields, bool single_threaded) {
    extended_ = std::make_unique<ExtendedPolling>(*this, fields, single_threaded, mask_);
  }
  /// Null of a plain one.
  ExtendedPolling* extended() noexcept { return extended_.get(); }
  ibv_cq_ex& face() noexcept { return *reinterpret_cast<ibv_cq_ex*>(static_cast<ibv_cq*>(this)); }
  /// 0; EINVAL where more wait than are to have a place.
  int resize(int entries);
  /// One completion, and when it came; of an extended one that keeps times. 1; or 0: there is none.
  int poll_with_time(ibv_wc& completion, std::int64_t& came_at) noexcept;

  // The rest under `lock`.
  bool has_room() const noexcept { return window_ != window_end_ || tail_ - head_ < capacity_; }
  /// Adds a completion, to be filled by the caller: where the user polls right now, in the user's own array.
  ibv_wc& add(ibv_wc_status status, bool solicited) noexcept {
    if (armed_ != Armed::no) [[unlikely]] {
      if (armed_ == Armed::any || solicited || status != IBV_WC_SUCCESS) fire();
    }
    ibv_wc& completion = window_ != window_end_ ? *window_++ : ring_[tail_++ & mask_];
    completion = {};
    completion.status = status;
    return completion;
  }
  /// A completion has found no room, and stays where it is: tells the user, once. Always false.
  bool report_overrun() noexcept;
  /// Takes out what `qp_number` has completed (its reset forgets it).
  void purge(std::uint32_t qp_number) noexcept;
  void progress() noexcept;
  /// The same for a user who sleeps: what a peer was asked to wake us for may have been too little for an
  /// event.
  void progress_armed() noexcept;

  /// Its user's polls make the other one's progress, too, unless that is at it by itself: what comes in there
  /// completes here. As often as it is called.
  void help(CompletionQueue& other);
  void stop_helping(CompletionQueue& other) noexcept;
  /// Under the other one's lock: whose lock is held that helps it now; else null.
  const CompletionQueue* helper() const noexcept { return helper_; }

  /// `qp` has work requests that wait for the peer.
  void add_sender(QueuePair& qp);
  /// `qp` has entries to take in, or receives to flush, that couldn't be dealt with at once.
  void add_backlog(QueuePair& qp);
  /// Its link is up: polls look at its ring, or its bell.
  void watch(QueuePair& qp);
  void forget(QueuePair& qp) noexcept;
  /// A send of one of its queue pairs is done: it isn't waiting in vain.
  void note_retired() noexcept { has_retired_ = true; }
  /// True while something waits for time to pass or for a peer: the agent then turns faster.
  bool restless() const noexcept {
    return !senders_.empty() || backlog_.size() > listeners() + (helped_.empty() ? 0 : 1);
  }
  /// Whether datagrams come to it.
  bool listens() const noexcept { return listeners() != 0; }
  bool is_armed() const noexcept { return armed_ != Armed::no; }
  /// True if the user has polled since this was last asked. Without the lock, which it would make a poller
  /// wait for.
  bool was_polled() noexcept { return polled_.exchange(false, std::memory_order_relaxed); }
  /// Without the lock: makes a thread that sleeps for an event look.
  void hint() noexcept {
    if (completion_channel) wake(completion_channel->fd);
  }

  Context& owner_context;
  const std::uint32_t index;
  CompletionChannel* const completion_channel;
  BiasedLock lock;
  std::uint32_t users = 0;  // queue pairs; guarded by the context's mutex
  std::uint32_t events_delivered = 0;

 private:
  std::uint32_t listeners() const noexcept { return listeners_.load(std::memory_order_relaxed); }
  void leave_backlog(QueuePair& qp) noexcept;
  void watch_datagrams() noexcept;
  void take_in() noexcept;
  void answer_bells() noexcept;
  void answer_group(std::uint32_t group) noexcept;
  void serve_backlog() noexcept;
  void help_others() noexcept;
  void serve_senders() noexcept;
  void nudge_peers() noexcept;
  void demote_direct() noexcept;
  bool promote(QueuePair& qp) noexcept;
  void note_times() noexcept;
  void fire() noexcept;
  void notify() noexcept;
  void notify_when_due(std::int64_t now) noexcept;

  static constexpr std::size_t max_direct = 8;  // rings that every poll looks at: one load each
  Bell& bell_;
  std::array<QueuePair*, max_direct> direct_{};
  std::uint32_t direct_count_ = 0;
  std::uint32_t idle_polls_ = 0;
  bool must_look_ = false;  // at the peers' progress, whatever the count of polls: nobody polls again soon
  std::uint32_t crowded_ = 0;
  std::int64_t stalled_since_ = 0;  // ns; 0: not stalled
  std::int64_t nudged_at_ = 0;      // ns; the peers, for a user who sleeps
  std::vector<QueuePair*> senders_;
  std::vector<QueuePair*> backlog_;  // while there is somebody to help, a null is among them
  std::vector<CompletionQueue*> helped_;
  const CompletionQueue* helper_ = nullptr;
  std::atomic<std::uint32_t> listeners_{
      0};  // of the backlog: UD queue pairs. Written under the lock; a hint without
  Armed armed_ = Armed::no;
  std::atomic<bool> polled_{false};
  bool has_retired_ = false;
  bool has_overrun_ = false;  // the user has been told
  // While the user polls, and nothing older waits in the ring: what is left of the user's array.
  ibv_wc* window_ = nullptr;
  ibv_wc* window_end_ = nullptr;
  std::uint32_t capacity_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t mask_;
  std::unique_ptr<ibv_wc[]> ring_;
  std::unique_ptr<ExtendedPolling> extended_;  // of ibv_create_cq_ex; else null
  std::unique_ptr<LateReports> late_;          // by the context's fault plan; null where it has none
};

}  // namespace verbena::core::soft
