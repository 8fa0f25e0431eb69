// SPDX-License-Identifier: Apache-2.0
// A loan is an access like any other, with a hazard of its own, but for two things: it lasts as long as a
// handler reads, and what ends it is its generation, not its key, which all loans of a region share.
//
// Lender: generation + 1, heavy fence, hazard?     Borrower: hazard, light fence, generation?
// One of them sees the other.
#include "core/soft/lending.h"

#include <mutex>

#include "core/soft/completion_queue.h"
#include "core/soft/context.h"

namespace verbena::core::soft {

bool SoftLending::can_lend(const ibv_mr& region) const noexcept {
  return context_.keys().entry(region.lkey).memory.load(std::memory_order_relaxed) != 0;
}

// Our own segment, which the peer can write too: a wrong generation costs its own connection a copy.
std::uint32_t SoftLending::generation(const ibv_qp& verbs, std::uint32_t place) const noexcept {
  const auto& qp = static_cast<const QueuePair&>(verbs);
  return qp.link.in ? qp.link.in->loans[place].load(std::memory_order_relaxed) & loan_generations : 0;
}

bool SoftLending::recall(ibv_qp& verbs, const Loan& loan) noexcept {
  auto& qp = static_cast<QueuePair&>(verbs);
  if (!qp.link.in) return true;
  qp.link.in->loans[loan.place].store(loan.generation + 1, std::memory_order_relaxed);  // fenced below
  heavy_fence();  // the generation, then the hazard
  return !qp.is_borrowed(loan.key);
}

void SoftLending::evict(ibv_qp& verbs, const Loan& loan) noexcept {
  auto& qp = static_cast<QueuePair&>(verbs);
  if (recall(verbs, loan)) return;
  const std::lock_guard guard(context_.mutex());
  context_.evict(qp, loan.key);
}

Lending::Borrow SoftLending::borrow(ibv_qp& verbs, const Loan& loan, const std::byte*& bytes) noexcept {
  auto& qp = static_cast<QueuePair&>(verbs);
  const std::lock_guard guard(qp.send_completions().lock);
  return qp.borrow(loan, bytes);
}

void SoftLending::give_back(ibv_qp& verbs) noexcept {
  auto& qp = static_cast<QueuePair&>(verbs);
  const std::lock_guard guard(qp.send_completions().lock);
  qp.give_back();
}

bool SoftLending::is_same_process(const ibv_qp& verbs) const noexcept {
  const auto& link = static_cast<const QueuePair&>(verbs).link;
  return link.peer && link.peer->same_process;
}

}  // namespace verbena::core::soft
