// SPDX-License-Identifier: Apache-2.0
#include "rpc/sampler.h"

#include <limits>

namespace verbena::rpc {

bool Sampler::draw() noexcept {
  if (period_ == 0) {
    left_ = std::numeric_limits<std::uint32_t>::max();
    return false;
  }
  state_ ^= state_ << 13;  // xorshift64
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  left_ = 1 + static_cast<std::uint32_t>((state_ >> 32) % (2 * std::uint64_t{period_} - 1));
  return true;
}

}  // namespace verbena::rpc
