// SPDX-License-Identifier: Apache-2.0
// States, errors, and letting go.
#include "core/soft/queue_pair.h"

#include <algorithm>
#include <mutex>

#include "core/monotonic_ns.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"

namespace verbena::core::soft {

QueuePair::QueuePair(Context& owner, ibv_pd* pd_of, std::uint32_t number, const ibv_qp_init_attr& init)
    : QueuePairFace{},
      owner_context(owner),
      domain(*static_cast<ProtectionDomain*>(pd_of)),
      shared_receives(static_cast<SharedReceiveQueue*>(init.srq)),
      signal_all(init.sq_sig_all != 0),
      capacities(init.cap),
      sends(init.cap.max_send_wr, std::max(init.cap.max_send_sge, 1u), init.cap.max_inline_data),
      receives(shared_receives ? 0 : init.cap.max_recv_wr, std::max(init.cap.max_recv_sge, 1u)),
      send_completions_(*static_cast<CompletionQueue*>(init.send_cq)),
      receive_completions_(*static_cast<CompletionQueue*>(init.recv_cq)) {
  context = owner.verbs();
  qp_context = init.qp_context;
  pd = pd_of;
  send_cq = init.send_cq;
  recv_cq = init.recv_cq;
  srq = init.srq;
  handle = number;
  qp_num = number;
  qp_type = init.qp_type;
  state = IBV_QPS_RESET;
  pthread_mutex_init(&mutex, nullptr);
  pthread_cond_init(&cond, nullptr);
  faults_ = owner.next_faults();
  if (owner.trace()) trace_ = std::make_unique<QueuePairTrace>(*owner.trace(), *this, attributes);
}

void QueuePair::change_state(ibv_qp_state to) noexcept {
  if (to == IBV_QPS_ERR) {
    enter_error();
    flush_sends();
    flush_receives();
    if (!sends.is_empty()) send_completions().add_sender(*this);
    if (has_receives_to_flush()) receive_completions().add_backlog(*this);
    return;
  }
  current_.store(to, std::memory_order_relaxed);
  state = to;
}

// Under either side's lock, or both. The other side finds out by the hints.
void QueuePair::enter_error() noexcept {
  Parting before = Parting::none;
  if (!parting.compare_exchange_strong(before, Parting::waiting)) return;  // the other side is at it, or was
  current_.store(IBV_QPS_ERR, std::memory_order_relaxed);
  state = IBV_QPS_ERR;
  if (link.in) link.in->state.store(LinkState::dead, std::memory_order_release);
  heavy_fence();  // the dead state, then the hazards
  if (await_peer(0)) {
    parting.store(Parting::over, std::memory_order_release);
  } else {
    parting.store(Parting::unsealed, std::memory_order_release);
    owner_context.ask_to_seal();
  }
  owner_context.hint(*this);
}

void QueuePair::go_on_sealed() noexcept {
  parting.store(Parting::over, std::memory_order_release);
  if (current_state() != IBV_QPS_ERR) return;
  flush_sends();
  flush_receives();
  if (!sends.is_empty()) send_completions().add_sender(*this);
  if (has_receives_to_flush()) receive_completions().add_backlog(*this);
  owner_context.hint(*this);
}

// The buffer rule: nothing completes while the peer may still touch what it points to.
bool QueuePair::await_peer(std::uint32_t key) noexcept {
  // Our other side may be serving a request: a copy, and no more; it waits for nothing meanwhile.
  while (const std::uint64_t own = own_hazard.load(std::memory_order_acquire)) {
    if (key != 0 && own != key) break;
    ::sched_yield();
  }
  if (!link.in || !link.peer || parting.load(std::memory_order_acquire) == Parting::over) return true;
  const auto touching = [&] {
    return std::ranges::any_of(link.in->hazard, [&](const std::atomic<std::uint64_t>& hazard) {
      const std::uint64_t held = hazard.load(std::memory_order_acquire);  // pairs with Link::withdraw
      return key == 0 ? held != 0 : held == key;
    });
  };
  // Relaxed: a hint. Whoever misses it waits once more.
  if (link.gave_up.load(std::memory_order_relaxed)) return !touching();
  if (await_withdrawal(touching, *link.peer)) {
    order_acquired_by(qp_num);
    return true;
  }
  link.gave_up.store(true, std::memory_order_relaxed);
  return false;
}

void QueuePair::fail_sends() noexcept {
  const ibv_wc_status status = broken_;
  if (!sends.is_empty()) {
    if (!send_completions().has_room()) return;  // the next poll comes back here
    if (trace_) [[unlikely]] {
      const SendRequest& first = sends.at(sends.head);
      const std::span<const ibv_sge> pieces = pieces_of(first, sends.head);
      const bool is_here = sends.head == sends.next && (first.is_inline || local_pieces_valid(pieces, 0));
      trace_->failed(status, is_here ? &first : nullptr, pieces);
    }
    complete(sends.at(sends.head), status);
    ++sends.head;
    if (static_cast<std::int32_t>(sends.next - sends.head) < 0) sends.next = sends.head;
  }
  enter_error();
  flush_sends();
}

void QueuePair::flush_sends() noexcept {
  if (parting.load(std::memory_order_acquire) != Parting::over) return;
  while (!sends.is_empty() && send_completions().has_room()) {
    complete(sends.at(sends.head), IBV_WC_WR_FLUSH_ERR);
    ++sends.head;
  }
  if (sends.is_empty()) {
    sends.next = sends.head;
  } else {
    send_completions().report_overrun();
  }
}

void QueuePair::report_access_fault() noexcept {
  if (!link.is_up() || !link.has_room(1)) return;
  link.publish(SlotKind::access_fault, 0, 0, 0, 0);
  link.call_peer(true);
}

void QueuePair::ask_for_event() noexcept {
  if (link.out) link.out->wants_event.store(1, std::memory_order_relaxed);  // fenced by CompletionQueue::arm
}

void QueuePair::nudge_peer() noexcept {
  if (!link.peer || !link.out || link.is_dead()) return;
  ControlMessage message;
  message.kind = ControlKind::nudge;
  message.from = qp_num;
  message.to = link.peer_number;
  send_control(link.peer->out.get(), message);  // a full socket means that it has been nudged
}

bool QueuePair::bear_loss() noexcept {
  receive();
  retire(true);
  if (!sends.is_empty()) return false;
  const std::int64_t patience = is_reliable() ? ack_patience_ns() : 0;
  fails_at = patience == 0 ? 0 : monotonic_ns() + patience;
  return true;
}

void QueuePair::lose_peer() noexcept {
  fails_at = 0;
  receive();     // what it left in our ring has arrived
  retire(true);  // what it consumed has been delivered
  if (!is_reliable()) return;
  if (current_state() != IBV_QPS_RTR && current_state() != IBV_QPS_RTS) return;
  if (!sends.is_empty()) {
    broken_ = refused_ = IBV_WC_RETRY_EXC_ERR;
    fail_sends();
  } else {
    enter_error();
  }
  flush_receives();
  if (has_receives_to_flush()) receive_completions().add_backlog(*this);
  ibv_async_event event{};
  event.event_type = IBV_EVENT_QP_FATAL;
  event.element.qp = this;
  owner_context.events().push(event);
}

void QueuePair::detach() noexcept {
  if (link.in) enter_error();  // has been waited for already: see Context::part
  send_completions().forget(*this);
  receive_completions().forget(*this);
  if (link.guard_closed && link.peer) link.peer->keep(std::move(link.guard));
  owner_context.release_peer(link.peer);
  link.~Link();
  new (&link) Link{};
}

void QueuePair::enter_reset() noexcept {
  detach();
  send_completions().purge(qp_num);
  if (recv_cq != send_cq) receive_completions().purge(qp_num);
  sends.head = sends.next = sends.tail = 0;
  receives.clear();
  receiving_ = unfinished_ = refusing_ = losing_ = has_target_write_ = told_last_receive_ = false;
  not_ready_since_ = waiting_since_ = 0;
  received_ = described_ = receives_posted = messages_sent_ = 0;
  broken_ = refused_ = IBV_WC_SUCCESS;
  known_write_ = known_loan_ = {};
  fails_at = 0;
  attributes = {};
  if (faults_) faults_->begin_anew();
  if (trace_) trace_->reset();
  deferred_ = named_ = for_named_ = 0;
  if (datagrams) {
    datagrams->drain();
    datagrams->forget_given_up();
  }
  parting.store(Parting::none, std::memory_order_relaxed);
  change_state(IBV_QPS_RESET);
}

}  // namespace verbena::core::soft
