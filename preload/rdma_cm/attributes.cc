// SPDX-License-Identifier: Apache-2.0
// What an id says of the queue pair that belongs to it, and of the way to the other end.
#include <infiniband/verbs.h>

#include <cerrno>
#include <cstring>

#include "core/soft/gid_table.h"
#include "core/soft/limits.h"
#include "core/soft/soft_device.h"
#include "preload/rdma_cm/id.h"

namespace verbena::preload::rdma_cm {
namespace {

constexpr std::uint16_t default_pkey = 0xffff;
constexpr std::uint8_t hop_limit = 64;
constexpr std::uint32_t default_qkey = 0x0123'4567;

/// 4.096 µs × 2^n: the kernel's packet lifetime on RoCE, there and back.
constexpr std::uint8_t default_packet_lifetime = 18;
constexpr std::uint8_t default_ack_timeout = default_packet_lifetime + 1;

constexpr std::uint8_t exactly = 2;  // a selector of IBTA's path record

}  // namespace

std::uint8_t Id::ack_timeout() const noexcept {
  return ack_timeout_.value_or(default_ack_timeout);
}

void Id::describe_way(const ibv_gid& to, ib_uverbs_ah_attr& attributes) const {
  const int own = core::soft::gid_index_of(source_.gid_on_device());
  attributes = {};
  attributes.is_global = 1;
  attributes.port_num = 1;
  attributes.grh.sgid_index = static_cast<std::uint8_t>(own < 0 ? 0 : own);
  attributes.grh.hop_limit = hop_limit;
  std::memcpy(attributes.grh.dgid, to.raw, sizeof attributes.grh.dgid);
}

// In each state what ibv_modify_qp(3) wants for it.
int Id::describe_queue_pair(std::uint32_t state, ib_uverbs_qp_attr& attributes) const {
  attributes = {};
  attributes.qp_state = state;
  attributes.qp_attr_mask = IBV_QP_STATE;
  const bool has_requests = qp_type_ == IBV_QPT_RC || qp_type_ == IBV_QPT_XRC_SEND;
  const bool has_answers = qp_type_ == IBV_QPT_RC || qp_type_ == IBV_QPT_XRC_RECV;
  const bool knows_peer = state_ == State::answered || state_ == State::requested ||
                          state_ == State::accepted || state_ == State::connected;
  switch (state) {
    case IBV_QPS_INIT:
      return describe_initial(attributes);
    case IBV_QPS_RTR:
      if (!knows_peer || is_datagram()) return EINVAL;
      attributes.qp_attr_mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
      describe_peer(attributes.ah_attr);
      attributes.path_mtu = IBV_MTU_4096;
      attributes.dest_qp_num = peer_.qp_num;
      attributes.rq_psn = peer_.first_psn & 0xff'ffff;
      if (has_answers) {
        attributes.qp_attr_mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
        attributes.max_dest_rd_atomic = responder_resources_;
      }
      return 0;
    case IBV_QPS_RTS:
      if (!knows_peer || is_datagram()) return EINVAL;
      attributes.qp_attr_mask |= IBV_QP_SQ_PSN;
      attributes.sq_psn = first_psn_;
      if (has_requests || has_answers) {
        attributes.qp_attr_mask |= IBV_QP_TIMEOUT;
        attributes.timeout = ack_timeout();
      }
      if (has_requests) {
        attributes.qp_attr_mask |= IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
        attributes.retry_cnt = retry_count_;
        attributes.rnr_retry = rnr_retry_count_;
        attributes.max_rd_atomic = initiator_depth_;
      }
      return 0;
    default:
      return EINVAL;
  }
}

int Id::describe_initial(ib_uverbs_qp_attr& attributes) const {
  if (!source_.is_internet() || source_.is_any()) return EINVAL;  // it has no device yet
  attributes.qp_attr_mask |= IBV_QP_PKEY_INDEX | IBV_QP_PORT;
  attributes.port_num = 1;
  if (is_datagram()) {
    attributes.qp_attr_mask |= IBV_QP_QKEY;
    attributes.qkey = default_qkey;
    return 0;
  }
  attributes.qp_attr_mask |= IBV_QP_ACCESS_FLAGS;
  if (state_ < State::connecting) return 0;
  attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  if (responder_resources_ != 0)
    attributes.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
  return 0;
}

rdma_ucm_query_route_resp Id::describe_route() const {
  rdma_ucm_query_route_resp route{};
  route.src_addr = source_.raw();
  route.dst_addr = destination_.raw();
  route.ibdev_index = ~0u;  // the kernel has no number for it
  if (!source_.is_internet() || source_.is_any()) return route;
  route.node_guid = core::soft_device_guid();
  route.port_num = 1;
  ib_user_path_rec& path = route.ib_route[0];
  const ibv_gid from = source_.gid_on_device();
  std::memcpy(path.sgid, from.raw, sizeof path.sgid);
  path.pkey = default_pkey;  // the same in either byte order
  if (!destination_.is_internet()) return route;
  const ibv_gid to = destination_.is_multicast() ? destination_.gid() : destination_.gid_on_device();
  std::memcpy(path.dgid, to.raw, sizeof path.dgid);
  if (state_ == State::address_found) return route;
  route.num_paths = 1;
  path.reversible = 1;
  path.numb_path = 1;
  path.mtu_selector = path.rate_selector = path.packet_life_time_selector = exactly;
  path.mtu = IBV_MTU_4096;
  path.rate = IBV_RATE_200_GBPS;
  path.packet_life_time = default_packet_lifetime;
  path.hop_limit = hop_limit;
  return route;
}

}  // namespace verbena::preload::rdma_cm
