// SPDX-License-Identifier: Apache-2.0
// soft0's verbs of queue pairs: from creating them through their states to their end, and multicast groups.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/queue_pair_states.h"
#include "core/soft/completion_queue.h"
#include "core/soft/device.h"
#include "core/soft/gid_table.h"
#include "core/soft/multicast_group.h"

namespace verbena::core::soft {

ibv_qp* SoftDevice::create_qp(ibv_pd* pd, ibv_qp_init_attr& init) {
  if (init.qp_type == IBV_QPT_XRC_SEND) {  // its own word is all that ever comes in
    init.recv_cq = init.send_cq;
    init.srq = nullptr;
    init.cap.max_recv_wr = init.cap.max_recv_sge = 0;
  } else if (init.qp_type != IBV_QPT_RC && init.qp_type != IBV_QPT_UC && init.qp_type != IBV_QPT_UD) {
    return refuse<ibv_qp>(EOPNOTSUPP);
  }
  const ibv_qp_cap& cap = init.cap;
  if (!init.send_cq || !init.recv_cq || cap.max_send_wr > max_work_requests ||
      cap.max_recv_wr > max_work_requests || cap.max_send_sge > max_gather || cap.max_recv_sge > max_gather ||
      cap.max_inline_data > max_inline) {
    return refuse<ibv_qp>(EINVAL);
  }
  if (init.srq && static_cast<SharedReceiveQueue*>(init.srq)->xrc_space)
    return refuse<ibv_qp>(EINVAL);  // only who is named with each message takes from it
  if (node_.fails_call()) return refuse<ibv_qp>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  if (init.qp_type == IBV_QPT_XRC_SEND) node_.expect_xrc();
  return make_queue_pair(pd, init);
}

QueuePair* SoftDevice::make_queue_pair(ibv_pd* pd, ibv_qp_init_attr& init) {
  ibv_qp_cap& cap = init.cap;
  std::unique_ptr<DatagramPort> port;
  const std::uint32_t number =
      init.qp_type == IBV_QPT_UD ? node_.claim_datagram_port(port) : node_.claim_queue_pair();
  if (number == 0) return nullptr;  // errno says why
  auto* qp = new QueuePair(node_, pd, number, init);
  qp->datagrams = std::move(port);
  cap.max_send_wr = qp->sends.depth();
  cap.max_send_sge = qp->sends.gather();
  if (!init.srq) {
    cap.max_recv_wr = qp->receives.depth();
    cap.max_recv_sge = qp->receives.gather();
  }
  qp->capacities = cap;
  ++qp->domain.users;
  ++qp->send_completions().users;
  ++qp->receive_completions().users;
  if (qp->shared_receives) qp->shared_receives->add_user(qp->receive_completions());
  node_.add(*qp);
  return qp;
}

ibv_qp* SoftDevice::create_qp_ex(ibv_qp_init_attr_ex& init) {
  if (init.qp_type == IBV_QPT_XRC_RECV) return create_xrc_receiver(init);
  constexpr std::uint32_t known =
      IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_CREATE_FLAGS | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  const std::uint64_t operations = init.comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS ? init.send_ops_flags : 0;
  if ((init.comp_mask & ~known) ||
      ((init.comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) && init.create_flags != 0) ||
      (operations & ~buildable_operations(init.qp_type))) {
    return refuse<ibv_qp>(EOPNOTSUPP);
  }
  if (!(init.comp_mask & IBV_QP_INIT_ATTR_PD)) return refuse<ibv_qp>(EINVAL);
  ibv_qp_init_attr plain{init.qp_context, init.send_cq, init.recv_cq,   init.srq,
                         init.cap,        init.qp_type, init.sq_sig_all};
  ibv_qp* const qp = create_qp(init.pd, plain);
  if (!qp) return nullptr;
  init.cap = plain.cap;
  if (init.comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) {
    auto& made = *static_cast<QueuePair*>(qp);
    made.batch = std::make_unique<WorkBatch>(made, operations);
  }
  return qp;
}

namespace {

int check_values(const ibv_qp_attr& attr, int mask) {
  if ((mask & IBV_QP_PORT) && attr.port_num != 1) return EINVAL;
  if ((mask & IBV_QP_PKEY_INDEX) && attr.pkey_index != 0) return EINVAL;
  if ((mask & IBV_QP_PATH_MTU) && (attr.path_mtu < IBV_MTU_256 || attr.path_mtu > IBV_MTU_4096))
    return EINVAL;
  if ((mask & IBV_QP_TIMEOUT) && attr.timeout > 31) return EINVAL;
  if ((mask & IBV_QP_RETRY_CNT) && attr.retry_cnt > 7) return EINVAL;
  if ((mask & IBV_QP_RNR_RETRY) && attr.rnr_retry > 7) return EINVAL;
  if ((mask & IBV_QP_MIN_RNR_TIMER) && attr.min_rnr_timer > 31) return EINVAL;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) && attr.max_rd_atomic > max_reads) return EINVAL;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) && attr.max_dest_rd_atomic > max_reads) return EINVAL;
  if ((mask & IBV_QP_DEST_QPN) && attr.dest_qp_num >= 1u << 24) return EINVAL;
  return 0;
}

void copy_values(ibv_qp_attr& to, const ibv_qp_attr& from, int mask) {
  if (mask & IBV_QP_ACCESS_FLAGS) to.qp_access_flags = from.qp_access_flags;
  if (mask & IBV_QP_PKEY_INDEX) to.pkey_index = from.pkey_index;
  if (mask & IBV_QP_PORT) to.port_num = from.port_num;
  if (mask & IBV_QP_QKEY) to.qkey = from.qkey;
  if (mask & IBV_QP_AV) to.ah_attr = from.ah_attr;
  if (mask & IBV_QP_PATH_MTU) to.path_mtu = from.path_mtu;
  if (mask & IBV_QP_TIMEOUT) to.timeout = from.timeout;
  if (mask & IBV_QP_RETRY_CNT) to.retry_cnt = from.retry_cnt;
  if (mask & IBV_QP_RNR_RETRY) to.rnr_retry = from.rnr_retry;
  if (mask & IBV_QP_RQ_PSN) to.rq_psn = from.rq_psn;
  if (mask & IBV_QP_SQ_PSN) to.sq_psn = from.sq_psn;
  if (mask & IBV_QP_MAX_QP_RD_ATOMIC) to.max_rd_atomic = from.max_rd_atomic;
  if (mask & IBV_QP_MAX_DEST_RD_ATOMIC) to.max_dest_rd_atomic = from.max_dest_rd_atomic;
  if (mask & IBV_QP_MIN_RNR_TIMER) to.min_rnr_timer = from.min_rnr_timer;
  if (mask & IBV_QP_DEST_QPN) to.dest_qp_num = from.dest_qp_num;
}

/// Programs give both halves of an XRC connection all attributes of a reliable one; the kernel drops what a
/// half has no use for, and so is it here.
int own_attributes(ibv_qp_type type, int mask) {
  if (type == IBV_QPT_XRC_SEND) return mask & ~(IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (type == IBV_QPT_XRC_RECV)
    return mask & ~(IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY);
  return mask;
}

}  // namespace

int SoftDevice::modify_qp(ibv_qp* verbs, ibv_qp_attr& attr, int given) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  const int mask = own_attributes(qp.qp_type, given);
  const std::lock_guard guard(node_.mutex());
  const ibv_qp_state from = qp.current_state();
  const ibv_qp_state to = mask & IBV_QP_STATE ? attr.qp_state : from;
  if ((mask & IBV_QP_CUR_STATE) && attr.cur_qp_state != from) return EINVAL;
  if (const int error = check_transition(qp.qp_type, from, to, mask)) return error;
  if (const int error = check_values(attr, mask)) return error;
  const bool opens = from == IBV_QPS_INIT && to == IBV_QPS_RTR;
  if ((mask & IBV_QP_AV) && attr.ah_attr.is_global && !gid_at(attr.ah_attr.grh.sgid_index)) return EINVAL;
  if (opens && node_.fails_call()) return ENOMEM;
  if (to == IBV_QPS_RESET) node_.part(qp);
  {
    const BothSides locked(qp);
    if (to == IBV_QPS_RESET) qp.enter_reset();
    copy_values(qp.attributes, attr, mask);
    if ((mask & IBV_QP_ACCESS_FLAGS) && qp.link.in) {
      qp.link.in->access.store(qp.attributes.qp_access_flags, std::memory_order_relaxed);
    }
    if ((mask & IBV_QP_RNR_RETRY) && qp.link.out) {
      qp.link.out->not_ready_retries.store(qp.attributes.rnr_retry, std::memory_order_relaxed);
    }
    if (to != from && to != IBV_QPS_RESET && !opens) qp.change_state(to);
  }
  if (to == IBV_QPS_ERR) node_.seal(qp);  // if it must be and can't be now, the agent tries again
  if (!opens) return 0;
  {
    const BothSides locked(qp);  // before the link: the peer's first entry may come at once
    qp.change_state(to);
  }
  if (qp.datagrams) {
    const BothSides locked(qp);
    qp.receive_completions().add_backlog(qp);
    return 0;
  }
  const bool reachable = !attr.ah_attr.is_global || is_gid_of_this_host(attr.ah_attr.grh.dgid);
  const int error = node_.open_link(qp, reachable ? attr.dest_qp_num : 0);
  if (error != 0) {
    const BothSides locked(qp);
    qp.enter_reset();
  }
  return error;
}

int SoftDevice::query_qp(ibv_qp* verbs, ibv_qp_attr& attr, int, ibv_qp_init_attr& init) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  const std::lock_guard guard(node_.mutex());
  attr = qp.attributes;
  attr.qp_state = attr.cur_qp_state = qp.current_state();
  attr.cap = qp.capacities;
  init = {};
  init.qp_context = qp.qp_context;
  const bool has_own_queues = qp.qp_type != IBV_QPT_XRC_RECV;
  init.send_cq = has_own_queues ? qp.send_cq : nullptr;
  init.recv_cq = has_own_queues && qp.qp_type != IBV_QPT_XRC_SEND ? qp.recv_cq : nullptr;
  init.srq = qp.srq;
  init.cap = qp.capacities;
  init.qp_type = qp.qp_type;
  init.sq_sig_all = qp.signal_all;
  return 0;
}

int SoftDevice::attach_mcast(ibv_qp* verbs, const ibv_gid& group, std::uint16_t) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  if (!qp.datagrams || !is_multicast_gid(group)) return EINVAL;
  const std::lock_guard guard(node_.mutex());
  const BothSides locked(qp);
  const int error = qp.datagrams->join(group);
  if (error == 0) node_.watch_datagrams(*qp.datagrams);  // who sleeps already hears of the group, too
  return error;
}

int SoftDevice::detach_mcast(ibv_qp* verbs, const ibv_gid& group, std::uint16_t) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  if (!qp.datagrams) return EINVAL;
  const std::lock_guard guard(node_.mutex());
  const BothSides locked(qp);
  return qp.datagrams->leave(group);
}

int SoftDevice::destroy_qp(ibv_qp* verbs) {
  auto* qp = static_cast<QueuePair*>(verbs);
  const std::lock_guard guard(node_.mutex());
  node_.part(*qp);
  node_.remove(*qp);
  --qp->domain.users;
  --qp->send_completions().users;
  --qp->receive_completions().users;
  if (qp->shared_receives) qp->shared_receives->remove_user();
  if (qp->xrc_space) qp->xrc_space->leave();
  delete qp;
  return 0;
}

}  // namespace verbena::core::soft
