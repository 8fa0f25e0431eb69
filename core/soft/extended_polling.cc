// SPDX-License-Identifier: Apache-2.0
#include "core/soft/extended_polling.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "core/monotonic_ns.h"
#include "core/soft/completion_queue.h"

namespace verbena::core::soft {
namespace {

CompletionQueue& queue_of(ibv_cq_ex* face) noexcept {
  return *static_cast<CompletionQueue*>(ibv_cq_ex_to_cq(face));
}

const ibv_wc& current(ibv_cq_ex* face) noexcept {
  return queue_of(face).extended()->current;
}

/// CLOCK_MONOTONIC's time as CLOCK_REALTIME's, as the two stand to each other now.
std::uint64_t wallclock_ns(std::int64_t monotonic) noexcept {
  using namespace std::chrono;
  const auto now = duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
  return static_cast<std::uint64_t>(now - (monotonic_ns() - monotonic));
}

void install_accessors(ibv_cq_ex& face, std::uint64_t fields) noexcept {
  face.read_opcode = [](ibv_cq_ex* cq) { return current(cq).opcode; };
  face.read_vendor_err = [](ibv_cq_ex* cq) { return current(cq).vendor_err; };
  face.read_wc_flags = [](ibv_cq_ex* cq) -> unsigned int { return current(cq).wc_flags; };
  if (fields & IBV_WC_EX_WITH_BYTE_LEN)
    face.read_byte_len = [](ibv_cq_ex* cq) { return current(cq).byte_len; };
  if (fields & IBV_WC_EX_WITH_IMM) face.read_imm_data = [](ibv_cq_ex* cq) { return current(cq).imm_data; };
  if (fields & IBV_WC_EX_WITH_QP_NUM) face.read_qp_num = [](ibv_cq_ex* cq) { return current(cq).qp_num; };
  if (fields & IBV_WC_EX_WITH_SRC_QP) face.read_src_qp = [](ibv_cq_ex* cq) { return current(cq).src_qp; };
  if (fields & IBV_WC_EX_WITH_SLID)
    face.read_slid = [](ibv_cq_ex* cq) -> std::uint32_t { return current(cq).slid; };
  if (fields & IBV_WC_EX_WITH_SL) face.read_sl = [](ibv_cq_ex* cq) { return current(cq).sl; };
  if (fields & IBV_WC_EX_WITH_DLID_PATH_BITS)
    face.read_dlid_path_bits = [](ibv_cq_ex* cq) { return current(cq).dlid_path_bits; };
  if (fields & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)
    face.read_completion_ts = [](ibv_cq_ex* cq) {
      return static_cast<std::uint64_t>(queue_of(cq).extended()->came_at);
    };
  if (fields & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)
    face.read_completion_wallclock_ns = [](ibv_cq_ex* cq) {
      return wallclock_ns(queue_of(cq).extended()->came_at);
    };
}

}  // namespace

ExtendedPolling::ExtendedPolling(CompletionQueue& cq, std::uint64_t fields, bool single_threaded,
                                 std::uint32_t mask)
    : single_threaded_(single_threaded), mask_(mask) {
  if (fields & times) stamps_ = std::make_unique<std::int64_t[]>(std::size_t{mask} + 1);
  std::fill(std::begin(cq.extension), std::end(cq.extension), std::byte{0});
  ibv_cq_ex& face = cq.face();
  face.start_poll = start;
  face.next_poll = next;
  face.end_poll = end;
  install_accessors(face, fields);
}

void ExtendedPolling::resize(std::uint32_t mask, std::uint32_t head, std::uint32_t tail) {
  if (stamps_) {
    auto wider = std::make_unique<std::int64_t[]>(std::size_t{mask} + 1);
    for (std::uint32_t at = head; at != tail; ++at) wider[at & mask] = stamps_[at & mask_];
    stamps_ = std::move(wider);
  }
  mask_ = mask;
}

int ExtendedPolling::start(ibv_cq_ex* face, ibv_poll_cq_attr* attr) noexcept {
  if (attr && attr->comp_mask != 0) return EINVAL;
  ExtendedPolling& self = *queue_of(face).extended();
  if (!self.single_threaded_) self.polling_.lock();
  const int result = next(face);
  if (result != 0) end(face);
  return result;
}

int ExtendedPolling::next(ibv_cq_ex* face) noexcept {
  CompletionQueue& cq = queue_of(face);
  ExtendedPolling& self = *cq.extended();
  // As any program polls: a fault plan has another function there.
  const int count = self.wants_times() ? cq.poll_with_time(self.current, self.came_at)
                                       : cq.context->ops.poll_cq(&cq, 1, &self.current);
  if (count == 0) return ENOENT;
  face->status = self.current.status;
  face->wr_id = self.current.wr_id;
  return 0;
}

void ExtendedPolling::end(ibv_cq_ex* face) noexcept {
  ExtendedPolling& self = *queue_of(face).extended();
  if (!self.single_threaded_) self.polling_.unlock();
}

}  // namespace verbena::core::soft
