// SPDX-License-Identifier: Apache-2.0
#include "core/soft/work_batch.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

WorkBatch& batch_of(ibv_qp_ex* face) noexcept {
  return *static_cast<QueuePair*>(&face->qp_base)->batch;
}

void begin_one_sided(ibv_qp_ex* face, ibv_wr_opcode opcode, std::uint32_t rkey,
                     std::uint64_t address) noexcept {
  if (ibv_send_wr* const request = batch_of(face).begin(opcode)) {
    request->wr.rdma.remote_addr = address;
    request->wr.rdma.rkey = rkey;
  }
}

void begin_atomic(ibv_qp_ex* face, ibv_wr_opcode opcode, std::uint32_t rkey, std::uint64_t address,
                  std::uint64_t compare_add, std::uint64_t swap) noexcept {
  if (ibv_send_wr* const request = batch_of(face).begin(opcode))
    request->wr.atomic = {address, compare_add, swap, rkey};
}

void install_one_sided(ibv_qp_ex& face, std::uint64_t operations) noexcept {
  if (operations & IBV_QP_EX_WITH_RDMA_WRITE)
    face.wr_rdma_write = [](ibv_qp_ex* qp, std::uint32_t rkey, std::uint64_t address) {
      begin_one_sided(qp, IBV_WR_RDMA_WRITE, rkey, address);
    };
  if (operations & IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM)
    face.wr_rdma_write_imm = [](ibv_qp_ex* qp, std::uint32_t rkey, std::uint64_t address, __be32 immediate) {
      begin_one_sided(qp, IBV_WR_RDMA_WRITE_WITH_IMM, rkey, address);
      if (ibv_send_wr* const request = batch_of(qp).current()) request->imm_data = immediate;
    };
  if (operations & IBV_QP_EX_WITH_RDMA_READ)
    face.wr_rdma_read = [](ibv_qp_ex* qp, std::uint32_t rkey, std::uint64_t address) {
      begin_one_sided(qp, IBV_WR_RDMA_READ, rkey, address);
    };
  if (operations & IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP)
    face.wr_atomic_cmp_swp = [](ibv_qp_ex* qp, std::uint32_t rkey, std::uint64_t address,
                                std::uint64_t compare, std::uint64_t swap) {
      begin_atomic(qp, IBV_WR_ATOMIC_CMP_AND_SWP, rkey, address, compare, swap);
    };
  if (operations & IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)
    face.wr_atomic_fetch_add = [](ibv_qp_ex* qp, std::uint32_t rkey, std::uint64_t address,
                                  std::uint64_t add) {
      begin_atomic(qp, IBV_WR_ATOMIC_FETCH_AND_ADD, rkey, address, add, 0);
    };
}

void install_sends(ibv_qp_ex& face, std::uint64_t operations) noexcept {
  if (operations & IBV_QP_EX_WITH_SEND) face.wr_send = [](ibv_qp_ex* qp) { batch_of(qp).begin(IBV_WR_SEND); };
  if (operations & IBV_QP_EX_WITH_SEND_WITH_IMM)
    face.wr_send_imm = [](ibv_qp_ex* qp, __be32 immediate) {
      if (ibv_send_wr* const request = batch_of(qp).begin(IBV_WR_SEND_WITH_IMM))
        request->imm_data = immediate;
    };
  if (operations & IBV_QP_EX_WITH_SEND_WITH_INV)
    face.wr_send_inv = [](ibv_qp_ex* qp, std::uint32_t key) {
      if (ibv_send_wr* const request = batch_of(qp).begin(IBV_WR_SEND_WITH_INV))
        request->invalidate_rkey = key;
    };
}

void install_windows(ibv_qp_ex& face, std::uint64_t operations) noexcept {
  if (operations & IBV_QP_EX_WITH_LOCAL_INV)
    face.wr_local_inv = [](ibv_qp_ex* qp, std::uint32_t key) {
      if (ibv_send_wr* const request = batch_of(qp).begin(IBV_WR_LOCAL_INV)) request->invalidate_rkey = key;
    };
  if (operations & IBV_QP_EX_WITH_BIND_MW)
    face.wr_bind_mw = [](ibv_qp_ex* qp, ibv_mw* window, std::uint32_t key, const ibv_mw_bind_info* bound) {
      if (ibv_send_wr* const request = batch_of(qp).begin(IBV_WR_BIND_MW))
        request->bind_mw = {window, key, *bound};
    };
}

void install_setters(ibv_qp_ex& face) noexcept {
  face.wr_set_ud_addr = [](ibv_qp_ex* qp, ibv_ah* address, std::uint32_t number, std::uint32_t key) {
    if (ibv_send_wr* const request = batch_of(qp).current()) request->wr.ud = {address, number, key};
  };
  face.wr_set_xrc_srqn = [](ibv_qp_ex* qp, std::uint32_t number) {
    if (ibv_send_wr* const request = batch_of(qp).current()) request->qp_type.xrc.remote_srqn = number;
  };
  face.wr_set_sge = [](ibv_qp_ex* qp, std::uint32_t key, std::uint64_t address, std::uint32_t length) {
    const ibv_sge piece{address, length, key};
    batch_of(qp).set_pieces(&piece, 1);
  };
  face.wr_set_sge_list = [](ibv_qp_ex* qp, std::size_t count, const ibv_sge* pieces) {
    batch_of(qp).set_pieces(pieces, count);
  };
  face.wr_set_inline_data = [](ibv_qp_ex* qp, void* address, std::size_t length) {
    const ibv_data_buf buffer{address, length};
    batch_of(qp).set_inline(&buffer, 1);
  };
  face.wr_set_inline_data_list = [](ibv_qp_ex* qp, std::size_t count, const ibv_data_buf* buffers) {
    batch_of(qp).set_inline(buffers, count);
  };
}

}  // namespace

std::uint64_t buildable_operations(ibv_qp_type type) noexcept {
  constexpr std::uint64_t datagrams = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
  constexpr std::uint64_t unreliable =
      datagrams | IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;
  constexpr std::uint64_t reliable = unreliable | IBV_QP_EX_WITH_RDMA_READ |
                                     IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
                                     IBV_QP_EX_WITH_LOCAL_INV | IBV_QP_EX_WITH_BIND_MW |
                                     IBV_QP_EX_WITH_SEND_WITH_INV;
  switch (type) {
    case IBV_QPT_UD:
      return datagrams;
    case IBV_QPT_UC:
      return unreliable;
    default:
      return reliable;
  }
}

WorkBatch::WorkBatch(QueuePair& qp, std::uint64_t operations) noexcept : qp_(qp) {
  ibv_qp_ex& face = qp.face();
  std::fill(std::begin(qp.extension), std::end(qp.extension), std::byte{0});
  face.wr_start = [](ibv_qp_ex* started) { batch_of(started).start(); };
  face.wr_complete = [](ibv_qp_ex* completed) { return batch_of(completed).finish(); };
  face.wr_abort = [](ibv_qp_ex* aborted) { batch_of(aborted).abandon(); };
  install_one_sided(face, operations);
  install_sends(face, operations);
  install_windows(face, operations);
  install_setters(face);
}

template <class Step>
void WorkBatch::attempt(Step step) noexcept {
  if (error_ != 0) return;
  try {
    step();
  } catch (const std::bad_alloc&) {
    error_ = ENOMEM;
  }
}

void WorkBatch::start() noexcept {
  building_.lock();
  clear();
}

void WorkBatch::clear() noexcept {
  error_ = 0;
  requests_.clear();
  pieces_.clear();
  bytes_.clear();
}

ibv_send_wr* WorkBatch::begin(ibv_wr_opcode opcode) noexcept {
  attempt([&] { requests_.push_back({{}, pieces_.size()}); });
  if (error_ != 0) return nullptr;
  ibv_send_wr& request = requests_.back().request;
  request.wr_id = qp_.face().wr_id;
  request.send_flags = qp_.face().wr_flags & ~unsigned{IBV_SEND_INLINE};
  request.opcode = opcode;
  return &request;
}

void WorkBatch::set_pieces(const ibv_sge* pieces, std::size_t count) noexcept {
  ibv_send_wr* const request = current();
  if (!request) return;
  attempt([&] { pieces_.insert(pieces_.end(), pieces, pieces + count); });
  if (error_ == 0) request->num_sge += static_cast<int>(count);
}

// The user's bytes are his own again when this returns.
void WorkBatch::set_inline(const ibv_data_buf* buffers, std::size_t count) noexcept {
  ibv_send_wr* const request = current();
  if (!request) return;
  const std::size_t begin = bytes_.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (buffers[i].length > max_inline || bytes_.size() - begin > max_inline) error_ = EINVAL;
    const auto* const from = static_cast<const std::byte*>(buffers[i].addr);
    attempt([&] { bytes_.insert(bytes_.end(), from, from + buffers[i].length); });
  }
  const ibv_sge piece{begin, static_cast<std::uint32_t>(bytes_.size() - begin), 0};
  attempt([&] { pieces_.push_back(piece); });
  request->send_flags |= IBV_SEND_INLINE;
  ++request->num_sge;
}

int WorkBatch::finish() noexcept {
  for (std::size_t i = 0; error_ == 0 && i < requests_.size(); ++i) {
    ibv_send_wr& request = requests_[i].request;
    request.sg_list = pieces_.data() + requests_[i].first_piece;
    request.next = i + 1 < requests_.size() ? &requests_[i + 1].request : nullptr;
    if (request.send_flags & IBV_SEND_INLINE)
      request.sg_list->addr += reinterpret_cast<std::uint64_t>(bytes_.data());
  }
  const int error = error_ != 0 || requests_.empty() ? error_ : qp_.post_whole(&requests_.front().request);
  building_.unlock();
  return error;
}

void WorkBatch::abandon() noexcept {
  building_.unlock();
}

}  // namespace verbena::core::soft
