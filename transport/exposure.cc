// SPDX-License-Identifier: Apache-2.0
#include "transport/exposure.h"

namespace verbena::transport {

void Exposure::leave() noexcept {
  ReadRight* const right = std::exchange(right_, nullptr);
  if (--right->holders == 0 && right->is_orphaned) delete right;
}

bool Exposure::revoke() noexcept {
  if (pin_) return pin_.revoke();
  if (lasting_ != 0) return false;
  if (!right_) return true;
  if (right_->holders > 1) return false;
  right_->region.reset();  // registered anew for the next message
  leave();
  return true;
}

}  // namespace verbena::transport
