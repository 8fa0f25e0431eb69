// SPDX-License-Identifier: Apache-2.0
// What a fault plan does to a queue pair's operations, and where a trace is told of them. A queue pair
// without either comes here never.
#include <time.h>

#include "core/monotonic_ns.h"
#include "core/soft/context.h"
#include "core/soft/not_ready_timer.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

bool takes_receive(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_SEND_WITH_INV ||
         opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

bool is_local(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_LOCAL_INV || opcode == IBV_WR_BIND_MW;
}

}  // namespace

// As advance(): an operation that meets a fault stays at the front, and all behind it wait, as they do for a
// retransmission.
void QueuePair::advance_by_plan() noexcept {
  using enum Faults::Fate;
  while (sends.has_waiting() && broken_ == IBV_WC_SUCCESS && refused_ == IBV_WC_SUCCESS) {
    SendRequest& request = sends.at(sends.next);
    if (faults_ && !is_local(request.opcode)) {
      if (is_reliable() && !may_send()) return;
      switch (faults_->fate(takes_receive(request.opcode), monotonic_ns(), patience())) {
        case goes:
          break;
        case waits:
          return;
        case lost:
          if (lose_unreliable(request)) continue;
          broken_ = IBV_WC_RETRY_EXC_ERR;
          return;
        case refused:
          if (lose_unreliable(request)) continue;
          broken_ = IBV_WC_RNR_RETRY_EXC_ERR;
          return;
        case cut:
          if (lose_unreliable(request)) continue;
          return cut_link();
      }
    }
    if (carry_out(request, sends.next) != Step::done) return;
    if (faults_ && !is_local(request.opcode)) faults_->went();
    if (trace_) trace_->request(request, pieces_of(request, sends.next));
    ++sends.next;
  }
}

std::span<const ibv_sge> QueuePair::pieces_of(const SendRequest& request, std::uint32_t position) noexcept {
  ibv_sge* const pieces = sends.pieces(position);
  if (request.is_inline) pieces->addr = reinterpret_cast<std::uint64_t>(sends.inline_bytes(position));
  return {pieces, request.pieces};
}

// Unreliable service tries once, and doesn't know.
bool QueuePair::lose_unreliable(SendRequest& request) noexcept {
  if (is_reliable()) return false;
  request.stage = SendRequest::Stage::answered;
  faults_->went();
  if (trace_) trace_->request(request, pieces_of(request, sends.next));  // it was sent
  ++sends.next;
  return true;
}

// The peer's timer is what counts, by the standard; ours stands for it.
Faults::Patience QueuePair::patience() const noexcept {
  if (!is_reliable()) return {0, 0, 0, 0};
  constexpr std::uint8_t without_timeout = 14;  // 67 ms, where the user wants to wait for ever
  const std::uint8_t exponent = attributes.timeout != 0 ? attributes.timeout : without_timeout;
  return {std::int64_t{4096} << exponent, attributes.retry_cnt, not_ready_timer_ns(attributes.min_rnr_timer),
          attributes.rnr_retry};
}

// What lose_peer() does, though the peer lives: it hears of it as of a dead one.
void QueuePair::cut_link() noexcept {
  broken_ = refused_ = IBV_WC_RETRY_EXC_ERR;
  ibv_async_event event{};
  event.event_type = IBV_EVENT_QP_FATAL;
  event.element.qp = this;
  owner_context.events().push(event);
}

// The hazard is announced and the key has been checked; a revoker waits for us from here on, and gives us up
// after a bound. The thread sleeps as it stands, its lock held: so would one that the system doesn't run.
void QueuePair::come_late(Role role) noexcept {
  const std::int64_t late = role == Role::requester ? faults_->late_request() : faults_->late_answer();
  if (late == 0) return;
  const std::int64_t end = monotonic_ns() + late;
  for (std::int64_t left = late; left > 0; left = end - monotonic_ns()) {
    constexpr std::int64_t second = 1'000'000'000;
    const timespec rest{left / second, left % second};
    ::nanosleep(&rest, nullptr);  // a signal ends it early: what is left is slept then
  }
}

}  // namespace verbena::core::soft
