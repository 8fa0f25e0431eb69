// SPDX-License-Identifier: Apache-2.0
#include "transport/send_ring.h"

#include <bit>

namespace verbena::transport {

SendRing::SendRing(std::uint32_t depth, std::uint32_t channel)
    : mask_(std::bit_ceil(depth) - 1), slots_(std::make_unique<SendSlot[]>(mask_ + 1)) {
  for (std::uint32_t i = 0; i <= mask_; ++i) {
    ibv_send_wr& request = slots_[i].request;
    request.wr_id = std::uint64_t{channel} << 32 | i << 2 | 2;  // low bits: see owns()
    request.sg_list = slots_[i].pieces.data();
    request.next = &at(i + 1).request;
  }
}

}  // namespace verbena::transport
