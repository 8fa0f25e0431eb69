// SPDX-License-Identifier: Apache-2.0
#include "transport/send_ring.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <new>
#include <system_error>

#include "verbena/error.h"

namespace verbena::transport {
namespace {

constexpr std::uint32_t capacity_of(std::uint32_t depth) {
  return std::bit_ceil(depth + 1);
}

}  // namespace

SlotStore::SlotStore(std::size_t rings, std::uint32_t depth)
    : slots_(rings * std::max(capacity_of(depth), at_once)) {
  const std::size_t bytes = slots_ * sizeof(SendSlot);
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(
        errc::device_failed,
        fmt::format("{} bytes of address space for the sends of {} peers can't be had: {}; lower peers or "
                    "depths, or see `ulimit -v`",
                    bytes, rings, std::generic_category().message(errno)));
  }
  ::madvise(memory, bytes, MADV_NOHUGEPAGE);  // a loop of two peers isn't to take 2 MiB
  memory_ = static_cast<SendSlot*>(memory);
}

SlotStore::~SlotStore() {
  ::munmap(memory_, slots_ * sizeof(SendSlot));
}

SendRing::SendRing(SlotStore& store, std::uint32_t depth, std::uint32_t signal_interval,
                   std::uint32_t channel)
    : mask_(capacity_of(depth) - 1), signal_interval_(signal_interval), channel_(channel), store_(store) {
  prepare();
  clear();
}

// The slot at `prepared_`; none where all are.
void SendRing::prepare() noexcept {
  if (prepared_ > mask_) return;
  const std::uint32_t at = prepared_++;
  auto* const slot = new (at % SlotStore::at_once == 0 ? store_.take() : newest_ + 1) SendSlot;
  if (!slots_) slots_ = newest_ = slot;
  newest_->following = slot;
  newest_->request.next = &slot->request;
  newest_ = slot;
  slot->following = slots_;  // until there is another one: the last one's is the first
  slot->request.next = &slots_->request;
  slot->request.wr_id = std::uint64_t{channel_} << 32 | at << 2 | 2;  // low bits: see owns()
  slot->request.sg_list = slot->pieces.data();
}

}  // namespace verbena::transport
