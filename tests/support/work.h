// SPDX-License-Identifier: Apache-2.0
/// Work requests as sentences: `send({piece}).with_id(3).unsignalled()`.
#pragma once

#include <arpa/inet.h>
#include <infiniband/verbs.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "support/buffer.h"

namespace verbena::test {

using Pieces = std::vector<ibv_sge>;

/// A send-queue work request with its gather list; signalled unless it says otherwise.
struct Work {
  ibv_send_wr request{};
  Pieces pieces;

  Work(ibv_wr_opcode opcode, Pieces list) : pieces(std::move(list)) {
    request.opcode = opcode;
    request.send_flags = IBV_SEND_SIGNALED;
  }

  Work&& with_id(std::uint64_t id) && { return request.wr_id = id, std::move(*this); }
  Work&& unsignalled() && { return std::move(*this).without(IBV_SEND_SIGNALED); }
  Work&& inlined() && { return std::move(*this).with(IBV_SEND_INLINE); }
  Work&& solicited() && { return std::move(*this).with(IBV_SEND_SOLICITED); }
  Work&& fenced() && { return std::move(*this).with(IBV_SEND_FENCE); }
  /// A datagram: to that queue pair behind that address, which takes what has this key.
  Work&& towards(ibv_ah* address, std::uint32_t queue_pair, std::uint32_t key) && {
    request.wr.ud = {address, queue_pair, key};
    return std::move(*this);
  }
  Work&& with(unsigned int flag) && { return request.send_flags |= flag, std::move(*this); }
  Work&& without(unsigned int flag) && { return request.send_flags &= ~flag, std::move(*this); }
};

inline Work send(Pieces pieces) {
  return {IBV_WR_SEND, std::move(pieces)};
}

inline Work send_with_imm(Pieces pieces, std::uint32_t imm) {
  Work work{IBV_WR_SEND_WITH_IMM, std::move(pieces)};
  work.request.imm_data = htonl(imm);
  return work;
}

inline Work send_with_invalidate(Pieces pieces, std::uint32_t rkey) {
  Work work{IBV_WR_SEND_WITH_INV, std::move(pieces)};
  work.request.invalidate_rkey = rkey;
  return work;
}

inline Work one_sided(ibv_wr_opcode opcode, Pieces pieces, Remote remote) {
  Work work{opcode, std::move(pieces)};
  work.request.wr.rdma.remote_addr = remote.address;
  work.request.wr.rdma.rkey = remote.rkey;
  return work;
}

inline Work write(Pieces from, Remote to) {
  return one_sided(IBV_WR_RDMA_WRITE, std::move(from), to);
}
inline Work read(Pieces into, Remote from) {
  return one_sided(IBV_WR_RDMA_READ, std::move(into), from);
}

inline Work write_with_imm(Pieces from, Remote to, std::uint32_t imm) {
  Work work = one_sided(IBV_WR_RDMA_WRITE_WITH_IMM, std::move(from), to);
  work.request.imm_data = htonl(imm);
  return work;
}

inline Work atomic(ibv_wr_opcode opcode, ibv_sge result, Remote target, std::uint64_t first,
                   std::uint64_t second) {
  Work work{opcode, {result}};
  work.request.wr.atomic = {target.address, first, second, target.rkey};
  return work;
}

inline Work fetch_add(ibv_sge result, Remote target, std::uint64_t addend) {
  return atomic(IBV_WR_ATOMIC_FETCH_AND_ADD, result, target, addend, 0);
}

inline Work compare_swap(ibv_sge result, Remote target, std::uint64_t expected, std::uint64_t desired) {
  return atomic(IBV_WR_ATOMIC_CMP_AND_SWP, result, target, expected, desired);
}

inline Work local_invalidate(std::uint32_t rkey) {
  Work work{IBV_WR_LOCAL_INV, {}};
  work.request.invalidate_rkey = rkey;
  return work;
}

/// Binds a type-2 window over `length` bytes of `buffer`, from `offset` on, under a new rkey.
inline Work bind(ibv_mw* window, std::uint32_t rkey, const Buffer& buffer, std::size_t offset,
                 std::size_t length, unsigned int access) {
  Work work{IBV_WR_BIND_MW, {}};
  work.request.bind_mw = {window, rkey, {buffer.region(), buffer.remote(offset).address, length, access}};
  return work;
}

}  // namespace verbena::test
