// SPDX-License-Identifier: Apache-2.0
// What a UD queue pair does: each datagram goes by itself, to whom its address handle and queue pair number
// say, and is lost without a word where it isn't expected.
#include <arpa/inet.h>

#include <cstring>

#include "core/monotonic_ns.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/datagram_port.h"
#include "core/soft/limits.h"
#include "core/soft/pieces.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

/// How long a datagram waits for room at its receiver before it counts as lost: a link's flow control would
/// hold it back no longer, and a receiver that doesn't poll must not hold up the sender's others. More than
/// two of the agent's quiet turns: so often it takes in what a receiver that doesn't poll is sent.
constexpr std::int64_t longest_wait_ns = 300'000'000;

/// The 40 bytes in front of each datagram that has come: an IPv6 header, as on RoCE.
ibv_grh header_in_front(std::uint32_t payload) noexcept {
  ibv_grh grh{};
  constexpr std::uint32_t ip_version = 6;
  constexpr std::uint8_t next_header = 0x1b;  // IBTA: a base transport header follows
  grh.version_tclass_flow = htonl(ip_version << 28);
  grh.paylen = htons(static_cast<std::uint16_t>(payload));
  grh.next_hdr = next_header;
  grh.hop_limit = 64;
  grh.sgid = grh.dgid = host_gid_once();
  return grh;
}
static_assert(sizeof(ibv_grh) == 40);

}  // namespace

// A message that is longer than the MTU isn't sent, and that is no error of the queue pair (IBTA,
// C10-93.1.1).
QueuePair::Step QueuePair::send_datagram(SendRequest& request, std::uint32_t position) noexcept {
  request.stage = SendRequest::Stage::answered;
  const std::span<const ibv_sge> pieces(sends.pieces(position), request.pieces);
  if (!request.is_inline && !local_pieces_valid(pieces, 0)) return fail_with(IBV_WC_LOC_PROT_ERR);
  const bool is_ours = request.remote_address != 0;
  if (request.length > longest_datagram || !is_ours) return Step::done;
  constexpr std::uint64_t use_own = 0x8000'0000;  // IBTA: such a key means the queue pair's own
  const std::uint64_t key = request.compare_add & use_own ? attributes.qkey : request.compare_add;
  const DatagramHeader header{static_cast<std::uint32_t>(key), request.immediate, request.flags, {}};
  if (datagrams->send(request.rkey, header, pieces)) {
    waiting_since_ = 0;
    return Step::done;
  }
  const std::int64_t now = monotonic_ns();
  if (waiting_since_ == 0) waiting_since_ = now;
  return now - waiting_since_ < longest_wait_ns ? Step::blocked : Step::done;
}

void QueuePair::receive_datagrams() noexcept {
  constexpr int most = 64;  // of one visit: nobody else starves
  Datagram datagram;
  for (int i = 0; i < most && receive_completions().has_room() && current_state() != IBV_QPS_ERR; ++i) {
    if (!datagrams->receive(datagram)) return;
    take_datagram(datagram);
  }
}

void QueuePair::take_datagram(const Datagram& datagram) noexcept {
  const auto payload = static_cast<std::uint32_t>(datagram.payload.size());
  const auto length = static_cast<std::uint32_t>(sizeof(ibv_grh)) + payload;
  if (datagram.header.key != attributes.qkey || !has_receive() || !has_space_for(length)) return;
  receiving_ = false;
  if (!receive_pieces_valid(length)) {
    complete_receive(current_receive_.wr_id, IBV_WC_LOC_PROT_ERR);
    return enter_error();
  }
  const ibv_grh grh = header_in_front(payload);
  scatter(reinterpret_cast<const std::byte*>(&grh), sizeof grh);
  scatter(datagram.payload.data(), payload);
  ibv_wc& completion =
      receive_completions().add(IBV_WC_SUCCESS, datagram.header.flags & slot_flag::solicited);
  completion.wr_id = current_receive_.wr_id;
  completion.opcode = IBV_WC_RECV;
  completion.byte_len = length;
  completion.imm_data = datagram.header.immediate;
  completion.qp_num = qp_num;
  completion.src_qp = datagram.source;
  completion.wc_flags = IBV_WC_GRH;
  if (datagram.header.flags & slot_flag::immediate) completion.wc_flags |= IBV_WC_WITH_IMM;
}

}  // namespace verbena::core::soft
