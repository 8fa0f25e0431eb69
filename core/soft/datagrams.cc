// SPDX-License-Identifier: Apache-2.0
// What a UD queue pair does: each datagram goes by itself, to whom its address handle and queue pair number
// say, and is lost without a word where it isn't expected.
#include <algorithm>
#include <array>
#include <cstring>

#include "core/monotonic_ns.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/datagram_port.h"
#include "core/soft/multicast_group.h"
#include "core/soft/network_header.h"
#include "core/soft/pieces.h"
#include "core/soft/queue_pair.h"

namespace verbena::core::soft {
namespace {

/// How long a datagram waits for room at its receiver before it counts as lost, and with it all that finds no
/// room there next. More than two of the agent's quiet turns: so often it takes in what a receiver that
/// doesn't poll is sent.
constexpr std::int64_t longest_wait_ns = 300'000'000;
/// Datagrams of a queue pair that wait so at once. The kernel lets a socket have ten: a burst is many times
/// that.
constexpr std::uint32_t most_deferred = 256;
/// Receivers that one look at them knows to be full. Of one more it may ask again for each datagram.
constexpr std::size_t most_full = 16;

}  // namespace

// A message that is longer than the MTU isn't sent, and that is no error of the queue pair (IBTA,
// C10-93.1.1).
QueuePair::Step QueuePair::send_datagram(SendRequest& request, std::uint32_t position) noexcept {
  request.stage = SendRequest::Stage::answered;
  const std::span<const ibv_sge> pieces(sends.pieces(position), request.pieces);
  if (!request.is_inline && !local_pieces_valid(pieces, 0)) return fail_with(IBV_WC_LOC_PROT_ERR);
  const bool is_ours = request.remote_address != 0;
  if (request.length > longest_datagram || !is_ours) return Step::done;
  if (is_multicast_gid(request.path.destination)) {
    hand_over(request, position);
    return Step::done;
  }
  if (!has_deferred_to(request.rkey)) {
    if (hand_over(request, position) || datagrams->has_given_up(request.rkey)) return Step::done;
  }
  if (deferred_ == most_deferred) {
    request.stage = SendRequest::Stage::waiting;
    return Step::blocked;
  }
  // Others needn't wait for this receiver: the datagram stays here, and what is behind it goes on.
  ++deferred_;
  request.stage = SendRequest::Stage::sent;
  request.end = link.out_consumed + 1;  // there is no link: nobody consumes so far
  request.swap = static_cast<std::uint64_t>(monotonic_ns());
  return Step::done;
}

bool QueuePair::hand_over(const SendRequest& request, std::uint32_t position) noexcept {
  constexpr std::uint64_t use_own = 0x8000'0000;  // IBTA: such a key means the queue pair's own
  const std::uint64_t key = request.compare_add & use_own ? attributes.qkey : request.compare_add;
  const DatagramHeader header{
      static_cast<std::uint32_t>(key), request.immediate, request.flags, {}, request.path};
  ibv_sge* const pieces = sends.pieces(position);
  if (request.is_inline) pieces->addr = reinterpret_cast<std::uint64_t>(sends.inline_bytes(position));
  if (is_multicast_gid(request.path.destination)) {
    datagrams->send_to_group(header, {pieces, request.pieces});
    return true;
  }
  return datagrams->send(request.rkey, header, {pieces, request.pieces});
}

bool QueuePair::has_deferred_to(std::uint32_t receiver) noexcept {
  if (deferred_ == 0) return false;
  for (std::uint32_t position = sends.head; position != sends.next; ++position) {
    const SendRequest& request = sends.at(position);
    if (request.stage == SendRequest::Stage::sent && request.rkey == receiver) return true;
  }
  return false;
}

// Those to one receiver keep their order.
void QueuePair::retry_datagrams() noexcept {
  if (deferred_ == 0) return;
  const std::int64_t now = monotonic_ns();
  std::array<std::uint32_t, most_full> full;
  std::size_t known = 0;
  for (std::uint32_t position = sends.head; position != sends.next; ++position) {
    SendRequest& request = sends.at(position);
    if (request.stage != SendRequest::Stage::sent) continue;
    const auto end = full.begin() + static_cast<std::ptrdiff_t>(known);
    const bool is_full = std::find(full.begin(), end, request.rkey) != end;
    if (is_full || !hand_over(request, position)) {
      if (!is_full && known < full.size()) full[known++] = request.rkey;
      if (now - static_cast<std::int64_t>(request.swap) < longest_wait_ns) continue;
      datagrams->give_up(request.rkey);
    }
    request.stage = SendRequest::Stage::answered;
    --deferred_;
  }
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
  const NetworkHeader in_front = network_header(datagram.header.path, payload);
  scatter(in_front.data(), in_front.size());
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
