// SPDX-License-Identifier: Apache-2.0
#include "transport/send_ring.h"

#include <bit>

namespace verbena::transport {

SendRing::SendRing(std::uint32_t depth, std::uint32_t channel)
    : mask_(std::bit_ceil(depth) - 1),
      entries_(std::make_unique<SendEntry[]>(mask_ + 1)),
      requests_(std::make_unique<ibv_send_wr[]>(mask_ + 1)),
      pieces_(std::make_unique<ibv_sge[]>(std::size_t{mask_ + 1} * max_gather)),
      staging_(std::make_unique_for_overwrite<std::byte[]>(std::size_t{mask_ + 1} * staging_size)) {
  for (std::uint32_t i = 0; i <= mask_; ++i) {
    requests_[i].wr_id = std::uint64_t{channel} << 32 | i << 2 | 2;  // low bits: see owns()
    requests_[i].sg_list = &pieces_[std::size_t{i} * max_gather];
  }
}

int SendRing::flush(ibv_qp* qp) noexcept {
  ibv_send_wr* const first = &requests_[posted_ & mask_];
  for (std::uint32_t at = posted_; at != tail_; ++at) {
    ibv_send_wr& request = requests_[at & mask_];
    const bool is_last = at + 1 == tail_;
    if (++since_signal_ >= signal_interval || (is_last && wants_completion_)) {
      request.send_flags |= IBV_SEND_SIGNALED;
      since_signal_ = 0;
    }
    if (is_last) request.next = nullptr;
  }
  wants_completion_ = false;
  posted_ = tail_;
  ibv_send_wr* bad = nullptr;
  return ibv_post_send(qp, first, &bad);
}

}  // namespace verbena::transport
