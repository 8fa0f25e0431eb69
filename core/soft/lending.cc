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
  return !qp.is_borrowed(loan);
}

bool SoftLending::evict(ibv_qp& verbs, const Loan& loan, bool patient) noexcept {
  auto& qp = static_cast<QueuePair&>(verbs);
  if (recall(verbs, loan)) return true;
  // Without the mutex, which the agent needs to learn that the peer is gone. The link stays: this thread owns
  // the queue pair.
  if (!qp.link.peer) return true;
  if (patient && await_withdrawal([&] { return qp.is_borrowed(loan); }, *qp.link.peer)) return true;
  const std::lock_guard guard(context_.mutex());
  return context_.evict(qp, loan);
}

bool SoftLending::is_current(const ibv_qp& verbs, const Loan& loan) const noexcept {
  const auto& qp = static_cast<const QueuePair&>(verbs);
  std::atomic_thread_fence(std::memory_order_acquire);  // the bytes, then the generation
  return qp.link.out && loan.place < places &&
         (qp.link.out->loans[loan.place].load(std::memory_order_relaxed) & loan_generations) ==
             loan.generation;
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

Lending::Borrow QueuePair::borrow(const Loan& loan, const std::byte*& bytes) noexcept {
  if (loan.place >= Lending::places || link.is_dead()) return Lending::Borrow::recalled;
  if (!link.out) return Lending::Borrow::later;  // the peer's word has come before its segment
  // As any access: first the key that was looked up for the loan before, then all that there is to look at.
  link.announce(Role::borrower, hazard_of(loan));
  Reach way = Reach::mapped;
  std::byte* mapped = nullptr;
  const std::uint64_t offset = loan.address - known_loan_.address;
  if (KeyEntry::key_of(known_loan_.word) == loan.key && offset <= known_loan_.length &&
      loan.length <= known_loan_.length - offset && still_mapped(known_loan_)) [[likely]] {
    mapped = known_loan_.mapped + offset;
  } else {
    way = reach(Role::borrower, loan.key, loan.address, loan.length, IBV_ACCESS_REMOTE_READ, mapped);
  }
  // Behind the hazard, as the key: see SoftLending.
  const std::uint32_t generation = link.out->loans[loan.place].load(std::memory_order_relaxed);
  const bool is_lent = (generation & loan_generations) == loan.generation;
  if (way == Reach::mapped && is_lent) [[likely]] {
    bytes = borrowed_ = mapped;
    return Lending::Borrow::here;
  }
  link.withdraw(Role::borrower);
  if (!is_lent || way == Reach::refused) return Lending::Borrow::recalled;
  return way == Reach::later ? Lending::Borrow::later : Lending::Borrow::never;
}

void QueuePair::give_back() noexcept {
  if (link.out) link.withdraw(Role::borrower);
  borrowed_ = nullptr;
  if (borrowed_mapping_) [[unlikely]]
    borrowed_mapping_.reset();
}

bool SoftLending::is_same_process(const ibv_qp& verbs) const noexcept {
  const auto& link = static_cast<const QueuePair&>(verbs).link;
  return link.peer && link.peer->same_process;
}

}  // namespace verbena::core::soft
