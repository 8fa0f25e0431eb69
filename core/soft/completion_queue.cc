// SPDX-License-Identifier: Apache-2.0
#include "core/soft/completion_queue.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>

#include "core/monotonic_ns.h"
#include "core/soft/context.h"
#include "core/soft/fence.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {

CompletionQueue::CompletionQueue(Context& owner, std::uint32_t queue_index, int entries, void* user_context,
                                 CompletionChannel* events)
    : CompletionQueueFace{},
      owner_context(owner),
      index(queue_index),
      completion_channel(events),
      bell_(owner.bell(queue_index)),
      capacity_(static_cast<std::uint32_t>(entries)),
      mask_(std::bit_ceil(capacity_) - 1),
      ring_(new ibv_wc[mask_ + 1]) {
  context = owner.verbs();
  channel = events;
  cq_context = user_context;
  cqe = entries;
  handle = queue_index;
  pthread_mutex_init(&mutex, nullptr);
  pthread_cond_init(&cond, nullptr);
  if (const FaultPlan* plan = owner.plan(); plan && plan->completion_delay.count() > 0)
    late_ = std::make_unique<LateReports>(plan->completion_delay.count(), mask_);
}

int CompletionQueue::poll(int count, ibv_wc* completions) noexcept {
  const std::lock_guard guard(lock);
  polled_.store(true, std::memory_order_relaxed);
  int taken = 0;
  while (taken < count && head_ != tail_) completions[taken++] = ring_[head_++ & mask_];
  if (taken >= count) return taken;
  window_ = completions + taken;
  window_end_ = completions + count;
  // Senders first, though what comes in now may acknowledge more: that is for the next poll, and an answer
  // reaches its user without waiting for the end of what it answers.
  if (!senders_.empty()) serve_senders();
  take_in();
  taken = static_cast<int>(window_ - completions);
  window_ = window_end_ = nullptr;
  return taken;
}

// All completions go by the ring.
int CompletionQueue::poll_late(int count, ibv_wc* completions) noexcept {
  const std::lock_guard guard(lock);
  polled_.store(true, std::memory_order_relaxed);
  progress();
  const std::int64_t now = monotonic_ns();
  notify_when_due(now);
  int taken = 0;
  while (taken < count && head_ != tail_ && late_->is_due(head_, now))
    completions[taken++] = ring_[head_++ & mask_];
  return taken;
}

int CompletionQueue::poll_with_time(ibv_wc& completion, std::int64_t& came_at) noexcept {
  const std::lock_guard guard(lock);
  polled_.store(true, std::memory_order_relaxed);
  if (head_ == tail_ || late_) progress();
  note_times();
  if (late_) {
    const std::int64_t now = monotonic_ns();
    notify_when_due(now);
    if (head_ != tail_ && !late_->is_due(head_, now)) return 0;
  }
  if (head_ == tail_) return 0;
  came_at = extended_->time_of(head_);
  completion = ring_[head_++ & mask_];
  return 1;
}

void CompletionQueue::note_times() noexcept {
  if (extended_ && extended_->wants_times()) extended_->stamp(tail_, monotonic_ns());
}

void CompletionQueue::fire() noexcept {
  if (late_) {
    late_->wants_event = true;
  } else {
    notify();
  }
}

// Whoever comes first: the user who polls, or the agent, which turns often under a plan.
void CompletionQueue::notify_when_due(std::int64_t now) noexcept {
  late_->stamp(tail_, now);
  if (armed_ == Armed::no || !late_->wants_event || head_ == tail_ || !late_->is_due(head_, now)) return;
  late_->wants_event = false;
  notify();
}

void CompletionQueue::notify() noexcept {
  armed_ = Armed::no;
  owner_context.armed_line(index).store(Armed::no,
                                        std::memory_order_relaxed);  // a late wake-up is only a hint
  completion_channel->notify(*this);
}

int CompletionQueue::arm(bool solicited_only) noexcept {
  if (!completion_channel) return EINVAL;
  const std::lock_guard guard(lock);
  if (armed_ != Armed::any) armed_ = solicited_only ? Armed::solicited : Armed::any;
  owner_context.armed_line(index).store(armed_, std::memory_order_relaxed);
  demote_direct();
  for (QueuePair* qp : senders_) qp->ask_for_event();
  // No lost wake-up: our stores, this fence, our loads in progress(). A peer stores its entry (or its
  // acknowledgement), a light fence, and loads what we stored: one of us sees the other.
  heavy_fence();
  must_look_ = true;
  watch_datagrams();
  progress();
  note_times();
  if (late_ && head_ != tail_) late_->wants_event = true;       // the user couldn't see it
  if (armed_ != Armed::no && !senders_.empty()) nudge_peers();  // a peer that neither polls nor sleeps armed
  return 0;
}

int CompletionQueue::resize(int entries) {
  const auto capacity = static_cast<std::uint32_t>(entries);
  const std::uint32_t mask = std::bit_ceil(capacity) - 1;
  std::unique_ptr<ibv_wc[]> ring(new ibv_wc[std::size_t{mask} + 1]);
  const std::lock_guard guard(lock);
  if (tail_ - head_ > capacity) return EINVAL;
  for (std::uint32_t at = head_; at != tail_; ++at) ring[at & mask] = ring_[at & mask_];
  if (extended_) extended_->resize(mask, head_, tail_);
  if (late_) late_->resize(mask, head_, tail_);
  ring_ = std::move(ring);
  mask_ = mask;
  capacity_ = capacity;
  cqe = entries;
  return 0;
}

bool CompletionQueue::report_overrun() noexcept {
  if (late_) return false;  // by a fault plan: they would have been taken out long ago
  if (std::exchange(has_overrun_, true)) return false;
  ibv_async_event event{};
  event.event_type = IBV_EVENT_CQ_ERR;
  event.element.cq = this;
  owner_context.events().push(event);
  return false;
}

void CompletionQueue::purge(std::uint32_t qp_number) noexcept {
  std::uint32_t kept = head_;
  for (std::uint32_t at = head_; at != tail_; ++at) {
    if (ring_[at & mask_].qp_num == qp_number) continue;
    if (extended_) extended_->move(at, kept);
    ring_[kept++ & mask_] = ring_[at & mask_];
  }
  tail_ = kept;
  if (extended_) extended_->take_back(tail_);
  if (late_) late_->take_back(tail_);
}

void CompletionQueue::progress() noexcept {
  take_in();
  if (!senders_.empty()) serve_senders();
}

void CompletionQueue::take_in() noexcept {
  for (std::uint32_t i = 0; i < direct_count_; ++i) direct_[i]->receive_direct();
  std::uint64_t rung = 0;
#pragma GCC unroll 8
  for (const auto& word : bell_.summary) rung |= word.load(std::memory_order_relaxed);
  if (rung) [[unlikely]]
    answer_bells();
  if (!backlog_.empty()) [[unlikely]]
    serve_backlog();
}

void CompletionQueue::progress_armed() noexcept {
  must_look_ = true;
  progress();
  note_times();
  if (late_) notify_when_due(monotonic_ns());
  if (armed_ != Armed::no) watch_datagrams();
  if (armed_ == Armed::no || senders_.empty()) return;
  for (QueuePair* qp : senders_) qp->ask_for_event();
  heavy_fence();  // as in arm()
  must_look_ = true;
  progress();
  constexpr std::int64_t pause_ns = 1'000'000;
  if (const std::int64_t now = monotonic_ns(); !senders_.empty() && now - nudged_at_ > pause_ns) {
    nudged_at_ = now;
    nudge_peers();
  }
}

void CompletionQueue::answer_bells() noexcept {
  for (std::uint32_t word = 0; word < std::size(bell_.summary); ++word) {
    if (bell_.summary[word].load(std::memory_order_relaxed) == 0) continue;
    // seq_cst exchanges: the summary is cleared before the groups are read, the groups before the rings.
    std::uint64_t groups = bell_.summary[word].exchange(0, std::memory_order_seq_cst);
    for (std::uint32_t i = 0; groups; ++i, groups >>= 8) {
      if (groups & 0xff) answer_group(word * 8 + i);
    }
  }
}

void CompletionQueue::answer_group(std::uint32_t group) noexcept {
  for (std::uint32_t word = group * 8; word < group * 8 + 8; ++word) {
    if (bell_.groups[word].load(std::memory_order_relaxed) == 0) continue;
    std::uint64_t bytes = bell_.groups[word].exchange(0, std::memory_order_seq_cst);
    for (std::uint32_t i = 0; bytes; ++i, bytes >>= 8) {
      if (!(bytes & 0xff)) continue;
      // The bytes are a peer's: the index may name any queue pair, or none.
      QueuePair* qp = owner_context.queue_pair_at(word * 8 + i, *this);
      if (!qp) continue;
      promote(*qp);
      qp->receive();
    }
  }
}

void CompletionQueue::serve_backlog() noexcept {
  for (std::size_t i = 0; i < backlog_.size();) {
    if (!backlog_[i]) {
      help_others();
      ++i;
      continue;
    }
    QueuePair& qp = *backlog_[i];
    qp.receive();
    if (qp.has_backlog()) {
      ++i;
      continue;
    }
    leave_backlog(qp);
    backlog_[i] = backlog_.back();
    backlog_.pop_back();
  }
}

void CompletionQueue::help(CompletionQueue& other) {
  const std::lock_guard guard(lock);
  if (helped_.empty()) backlog_.push_back(nullptr);
  helped_.push_back(&other);
}

void CompletionQueue::stop_helping(CompletionQueue& other) noexcept {
  const std::lock_guard guard(lock);
  const auto found = std::ranges::find(helped_, &other);
  if (found == helped_.end()) return;
  helped_.erase(found);
  if (helped_.empty()) std::erase(backlog_, nullptr);
}

// Whoever holds the other's lock may wait for ours.
void CompletionQueue::help_others() noexcept {
  if (helper_) return;  // it is being helped itself: two that help each other would go in circles
  for (CompletionQueue* other : helped_) {
    if (other->helper_ || !other->lock.try_lock()) continue;
    other->helper_ = this;
    other->progress();
    other->helper_ = nullptr;
    other->lock.unlock();
  }
}

void CompletionQueue::leave_backlog(QueuePair& qp) noexcept {
  qp.in_backlog = false;
  if (qp.datagrams) listeners_.fetch_sub(1, std::memory_order_relaxed);  // a count, under the lock
}

// Before the look that follows arming: what comes before it is found by that, what comes after it by the
// agent. One that is full takes none: its owner's next poll makes room, and looks.
void CompletionQueue::watch_datagrams() noexcept {
  if (!listens() || !has_room()) [[likely]]
    return;
  for (const QueuePair* qp : backlog_) {
    if (qp && qp->datagrams) owner_context.watch_datagrams(*qp->datagrams);
  }
}

void CompletionQueue::serve_senders() noexcept {
  // Reading a peer's progress line makes its next store slower: seldom, as acknowledgements ride on its
  // messages.
  constexpr std::uint32_t polls_between_looks = 64;
  const bool look = ++idle_polls_ % polls_between_looks == 0 || std::exchange(must_look_, false);
  for (std::size_t i = 0; i < senders_.size();) {
    QueuePair& qp = *senders_[i];
    if (look || !qp.retire_acknowledged()) qp.retire(look);
    if (qp.has_outstanding()) {
      ++i;
      continue;
    }
    qp.in_senders = false;
    senders_[i] = senders_.back();
    senders_.pop_back();
  }
  if (std::exchange(has_retired_, false) || senders_.empty()) {
    idle_polls_ = 0;
    stalled_since_ = 0;
  } else if (look) {
    constexpr std::int64_t patience_ns = 50'000;
    const std::int64_t now = monotonic_ns();
    if (stalled_since_ == 0) {
      stalled_since_ = now;
    } else if (now - stalled_since_ > patience_ns) {
      stalled_since_ = now + 8 * patience_ns;  // asked now; next time later
      nudge_peers();
    }
  }
}

void CompletionQueue::nudge_peers() noexcept {
  for (QueuePair* qp : senders_) qp->nudge_peer();
}

void CompletionQueue::add_sender(QueuePair& qp) {
  if (qp.in_senders) return;
  qp.in_senders = true;
  senders_.push_back(&qp);
  if (armed_ == Armed::no) [[likely]]
    return;
  // Whoever has armed is about to sleep, and the peer may be asleep, too, or busy elsewhere; or it was so
  // quick that it hasn't seen our wish: as in arm().
  qp.ask_for_event();
  heavy_fence();
  qp.retire(true);
  if (qp.has_outstanding()) qp.nudge_peer();
}

void CompletionQueue::add_backlog(QueuePair& qp) {
  if (qp.in_backlog) return;
  qp.in_backlog = true;
  backlog_.push_back(&qp);
  if (qp.datagrams) listeners_.fetch_add(1, std::memory_order_relaxed);  // a count, under the lock
}

void CompletionQueue::watch(QueuePair& qp) {
  if (!promote(qp)) qp.set_attention(Attention::bell);
  add_backlog(qp);  // what came before the peer knew how to call is found by looking once
}

bool CompletionQueue::promote(QueuePair& qp) noexcept {
  if (armed_ != Armed::no || qp.is_direct) return qp.is_direct;
  if (direct_count_ == max_direct) {
    // All places are taken: now and then the longest-listed makes room, so that no place goes to the dead for
    // ever.
    constexpr std::uint32_t rings_before_change = 256;
    if (++crowded_ % rings_before_change != 0) return false;
    QueuePair& leaver = *direct_[0];
    leaver.is_direct = false;
    leaver.set_attention(Attention::bell);
    heavy_fence();
    add_backlog(leaver);
    std::copy(direct_.begin() + 1, direct_.end(), direct_.begin());
    --direct_count_;
  }
  direct_[direct_count_++] = &qp;
  qp.is_direct = true;
  qp.set_attention(Attention::direct);
  return true;
}

void CompletionQueue::demote_direct() noexcept {
  for (std::uint32_t i = 0; i < direct_count_; ++i) {
    direct_[i]->is_direct = false;
    direct_[i]->set_attention(Attention::bell);
    add_backlog(*direct_[i]);  // looked at once more, after the caller's fence
  }
  direct_count_ = 0;
}

void CompletionQueue::forget(QueuePair& qp) noexcept {
  const auto end = std::remove(direct_.begin(), direct_.begin() + direct_count_, &qp);
  direct_count_ = static_cast<std::uint32_t>(end - direct_.begin());
  if (qp.recv_cq == this) {
    qp.is_direct = false;
    if (std::erase(backlog_, &qp)) leave_backlog(qp);
  }
  if (qp.send_cq == this) {
    std::erase(senders_, &qp);
    qp.in_senders = false;
  }
}

}  // namespace verbena::core::soft
