// SPDX-License-Identifier: Apache-2.0
/// Loans between soft0's queue pairs: see core/lending.h, and Inbound::loans.
#pragma once

#include "core/lending.h"

namespace verbena::core::soft {

class Context;

class SoftLending final : public Lending {
 public:
  explicit SoftLending(Context& context) noexcept : context_(context) {}

  bool can_lend(const ibv_mr& region) const noexcept override;
  std::uint32_t generation(const ibv_qp& qp, std::uint32_t place) const noexcept override;
  bool recall(ibv_qp& qp, const Loan& loan) noexcept override;
  bool evict(ibv_qp& qp, const Loan& loan, bool patient) noexcept override;
  bool is_current(const ibv_qp& qp, const Loan& loan) const noexcept override;
  Borrow borrow(ibv_qp& qp, const Loan& loan, const std::byte*& bytes) noexcept override;
  void give_back(ibv_qp& qp) noexcept override;
  bool is_same_process(const ibv_qp& qp) const noexcept override;

 private:
  Context& context_;
};

}  // namespace verbena::core::soft
