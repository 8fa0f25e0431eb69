// SPDX-License-Identifier: Apache-2.0
/// Memory lent to a peer on this host: it reads the lender's pages where they lie, and gives them back.
///
/// What verbs have no word for, of devices whose peers can map each other's memory: soft0. A *loan* is a
/// place of a queue pair's table of loans, in a *generation* that only a recall changes: lending again and
/// again costs no store to what the borrower reads.
///
/// Thread safety: as the verbs of its Device. Neither borrow() nor give_back() makes a system call, once the
/// memory has been mapped.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>

namespace verbena::core {

/// What a borrower is told of: a plain value, to be sent in a message.
struct Loan {
  std::uint64_t address;  ///< in the lender
  std::uint32_t length;   ///< bytes
  std::uint32_t key;      ///< of a region of shared memory that lets the peer read
  std::uint32_t place;    ///< below Lending::places
  std::uint32_t generation;
};

class Lending {
 public:
  virtual ~Lending() = default;
  Lending(const Lending&) = delete;
  Lending& operator=(const Lending&) = delete;

  /// Loans of a queue pair at once, each way.
  static constexpr std::uint32_t places = 256;

  // ---- The lender ----
  /// Whether peers can map `region` (Device::reg_shared_mr): its pages may have been exchanged meanwhile.
  virtual bool can_lend(const ibv_mr& region) const noexcept = 0;
  /// What a loan in `place` has to carry from now on.
  virtual std::uint32_t generation(const ibv_qp& qp, std::uint32_t place) const noexcept = 0;
  /// No borrower finds the loan any more. True: and none reads it, nor ever will; else ask again, or evict().
  virtual bool recall(ibv_qp& qp, const Loan& loan) noexcept = 0;
  /// recall(), and where `patient` a wait for the borrower: at most a second, or until its process is seen to
  /// be stopped. Then the queue pair fails, and the lender gets fresh pages with the same content: what the
  /// borrower goes on reading is memory that nobody else sees. False: there were none to be had; try again.
  virtual bool evict(ibv_qp& qp, const Loan& loan, bool patient) noexcept = 0;

  // ---- The borrower ----
  enum class Borrow : std::uint8_t {
    here,      ///< to be given back
    later,     ///< it is being mapped: ask again
    recalled,  ///< the lender has taken it back, or its connection has ended
    never,     ///< it can't be mapped: to be read by its key, and then looked at by is_current()
  };
  /// One loan of a queue pair at a time. `here`: `bytes` is valid until give_back(), whatever becomes of the
  /// lender. The lender may change the bytes meanwhile: they are its word, as all that comes from a peer.
  virtual Borrow borrow(ibv_qp& qp, const Loan& loan, const std::byte*& bytes) noexcept = 0;
  virtual void give_back(ibv_qp& qp) noexcept = 0;
  /// False: the loan has been recalled, and what was read of it may be anything.
  virtual bool is_current(const ibv_qp& qp, const Loan& loan) const noexcept = 0;
  /// The lender is this very process. Its thread may be the borrower's own, and wait for itself: such a loan
  /// is copied, and given back at once.
  virtual bool is_same_process(const ibv_qp& qp) const noexcept = 0;

 protected:
  Lending() = default;
};

}  // namespace verbena::core
