// SPDX-License-Identifier: Apache-2.0
#include "transport/send_ring.h"

#include <bit>

namespace verbena::transport {

SendRing::SendRing(std::uint32_t depth, std::uint32_t channel)
    : mask_(std::bit_ceil(depth + 1) - 1), slots_(std::make_unique<SendSlot[]>(mask_ + 1)) {
  for (std::uint32_t i = 0; i <= mask_; ++i) {
    SendSlot& slot = slots_[i];
    slot.following = &slots_[(i + 1) & mask_];
    slot.request.wr_id = std::uint64_t{channel} << 32 | i << 2 | 2;  // low bits: see owns()
    slot.request.sg_list = slot.pieces.data();
    slot.request.next = &slot.following->request;
  }
  clear();
}

}  // namespace verbena::transport
