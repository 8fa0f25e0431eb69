// SPDX-License-Identifier: Apache-2.0
#include "core/queue_pair.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <random>

#include "core/error.h"
#include "core/queue_pair_states.h"

namespace verbena::core {
namespace {

constexpr std::uint32_t sequence_mask = 0xff'ffff;  // packet sequence numbers have 24 bits
constexpr std::uint8_t hop_limit = 64;              // of the IP header, enough for any data centre

/// A new first number for each connection, so that late packets of the one before don't fit.
std::uint32_t random_sequence() {
  return std::random_device{}() & sequence_mask;
}

Handle<ibv_qp> create(Device& device, ibv_pd* pd, ibv_cq* send_cq, ibv_cq* receive_cq, ibv_srq* srq,
                      const QueuePairOptions& options, std::uint32_t& inline_size) {
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.send_cq = send_cq;
  init.recv_cq = receive_cq;
  init.srq = srq;
  init.sq_sig_all = options.signal_all ? 1 : 0;
  init.cap.max_send_wr = options.send_depth;
  init.cap.max_recv_wr = options.receive_depth;
  init.cap.max_send_sge = options.gather;
  init.cap.max_recv_sge = srq != nullptr ? 0 : options.gather;
  init.cap.max_inline_data = options.inline_size;
  ibv_qp* qp = device.create_qp(pd, init);
  if (qp == nullptr) {
    throw_verb_error(device.name(), "ibv_create_qp", errno,
                     fmt::format("{} sends, {} receives, {} pieces, {} bytes inline", options.send_depth,
                                 options.receive_depth, options.gather, options.inline_size));
  }
  inline_size = init.cap.max_inline_data;
  return {device, qp};
}

}  // namespace

QueuePair::QueuePair(Device& device, ibv_pd* pd, ibv_cq* send_cq, ibv_cq* receive_cq, ibv_srq* srq,
                     const QueuePairOptions& options, std::uint8_t port)
    : device_(device),
      options_(options),
      port_(port),
      gid_index_(device.preferred_gid_index(port)),
      qp_(create(device, pd, send_cq, receive_cq, srq, options, inline_size_)) {
  ibv_device_attr attr{};
  if (const int error = device_.query_device(attr))
    throw_verb_error(device_.name(), "ibv_query_device", error);
  ibv_port_attr port_attr{};
  if (const int error = device_.query_port(port_, port_attr)) {
    throw_verb_error(device_.name(), "ibv_query_port", error, fmt::format("port {}", port_));
  }
  ibv_gid gid{};
  if (const int error = device_.query_gid(port_, gid_index_, gid)) {
    throw_verb_error(device_.name(), "ibv_query_gid", error,
                     fmt::format("port {}, index {}", port_, gid_index_));
  }
  const int reads =
      std::min({static_cast<int>(options_.reads), attr.max_qp_rd_atom, attr.max_qp_init_rd_atom});
  options_.reads = static_cast<std::uint8_t>(std::max(reads, 0));
  atomics_ = attr.atomic_cap != IBV_ATOMIC_NONE;
  facts_.qp_number = qp_->qp_num;
  facts_.lid = port_attr.lid;
  facts_.mtu = static_cast<std::uint8_t>(port_attr.active_mtu);
  facts_.reads_accepted = options_.reads;
  std::memcpy(facts_.gid.data(), gid.raw, facts_.gid.size());
  initialise();
}

QueuePair::~QueuePair() {
  fail();
}

void QueuePair::initialise() {
  facts_.packet_sequence = random_sequence();
  ibv_qp_attr attr{};
  attr.pkey_index = 0;
  attr.port_num = port_;
  attr.qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
  if (atomics_) attr.qp_access_flags |= IBV_ACCESS_REMOTE_ATOMIC;
  transition(IBV_QPS_INIT, attr);
}

void QueuePair::bring_up(const QueuePairFacts& peer) {
  if (state_ == IBV_QPS_RESET) initialise();
  ibv_qp_attr attr{};
  attr.path_mtu = static_cast<ibv_mtu>(std::min(facts_.mtu, peer.mtu));
  attr.dest_qp_num = peer.qp_number;
  attr.rq_psn = peer.packet_sequence;
  attr.max_dest_rd_atomic = facts_.reads_accepted;
  attr.min_rnr_timer = options_.receiver_not_ready_timer;
  attr.ah_attr.dlid = peer.lid;
  attr.ah_attr.port_num = port_;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(gid_index_);
  attr.ah_attr.grh.hop_limit = hop_limit;
  std::memcpy(attr.ah_attr.grh.dgid.raw, peer.gid.data(), peer.gid.size());
  transition(IBV_QPS_RTR, attr);

  attr.sq_psn = facts_.packet_sequence;
  attr.timeout = options_.ack_timeout_exponent;
  attr.retry_cnt = options_.retries;
  attr.rnr_retry = options_.receiver_not_ready_retries;
  attr.max_rd_atomic = std::min(options_.reads, peer.reads_accepted);
  transition(IBV_QPS_RTS, attr);
}

void QueuePair::fail() noexcept {
  // In RESET nothing can be outstanding, and there is no way from there to ERR. In ERR it is done again all
  // the same: some devices flush what was posted since only then.
  if (state_ == IBV_QPS_RESET) return;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  device_.modify_qp(qp_.get(), attr, IBV_QP_STATE);
  state_ = IBV_QPS_ERR;
}

void QueuePair::recycle() {
  ibv_qp_attr attr{};
  transition(IBV_QPS_RESET, attr);
  initialise();
}

void QueuePair::transition(ibv_qp_state to, ibv_qp_attr& attr) {
  const std::optional<Transition> arrow = find_transition(IBV_QPT_RC, state_, to);
  if (!arrow) {
    throw Error(errc::invalid_state, fmt::format("queue pair {} of device {} can't go from {} to {}",
                                                 number(), device_.name(), to_string(state_), to_string(to)));
  }
  attr.qp_state = to;
  if (const int error = device_.modify_qp(qp_.get(), attr, IBV_QP_STATE | arrow->required)) {
    throw_verb_error(device_.name(), "ibv_modify_qp", error,
                     fmt::format("queue pair {}, {} to {}", number(), to_string(state_), to_string(to)));
  }
  state_ = to;
}

}  // namespace verbena::core
