// SPDX-License-Identifier: Apache-2.0
#include "support/endpoint.h"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace verbena::test {
namespace {

constexpr std::uint8_t port = 1;

template <class T>
core::Handle<T> made(core::Device& device, T* object, const char* what) {
  if (object == nullptr) throw std::system_error(errno, std::generic_category(), what);
  return {device, object};
}

ibv_qp* create_extended(core::Device& device, ibv_pd* pd, std::uint64_t operations, ibv_qp_init_attr& plain) {
  ibv_qp_init_attr_ex init{};
  init.send_cq = plain.send_cq;
  init.recv_cq = plain.recv_cq;
  init.srq = plain.srq;
  init.cap = plain.cap;
  init.qp_type = plain.qp_type;
  init.sq_sig_all = plain.sq_sig_all;
  init.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  init.pd = pd;
  init.send_ops_flags = operations;
  ibv_qp* const qp = ibv_create_qp_ex(device.context(), &init);
  plain.cap = init.cap;
  return qp;
}

core::Handle<ibv_qp> make_queue_pair(core::Device& device, ibv_pd* pd, ibv_cq* send_cq, ibv_cq* receive_cq,
                                     const EndpointOptions& options, ibv_qp_cap& granted) {
  ibv_qp_init_attr init{};
  init.qp_type = options.type;
  init.send_cq = send_cq;
  init.recv_cq = receive_cq;
  init.srq = options.srq;
  init.sq_sig_all = options.signal_all ? 1 : 0;
  init.cap = {options.send_depth, options.srq != nullptr ? 0 : options.receive_depth, options.gather,
              options.srq != nullptr ? 0 : options.gather, options.inline_size};
  ibv_qp* const created = options.operations != 0 ? create_extended(device, pd, options.operations, init)
                                                  : device.create_qp(pd, init);
  auto qp = made(device, created, "creating a queue pair");
  granted = init.cap;
  return qp;
}

}  // namespace

Endpoint::Endpoint(core::Device& device, const EndpointOptions& options)
    : device_(device),
      options_(options),
      own_pd_(options.pd != nullptr ? core::Handle<ibv_pd>{}
                                    : made(device, device.alloc_pd(), "allocating a protection domain")),
      pd_(options.pd != nullptr ? options.pd : own_pd_.get()),
      channel_(made(device, device.create_comp_channel(), "creating a completion channel")),
      own_send_cq_(options.send_cq != nullptr
                       ? core::Handle<ibv_cq>{}
                       : made(device, device.create_cq(options.completions, this, channel_.get(), 0),
                              "creating a send CQ")),
      send_cq_(options.send_cq != nullptr ? options.send_cq : own_send_cq_.get()),
      own_receive_cq_(options.receive_cq != nullptr
                          ? core::Handle<ibv_cq>{}
                          : made(device, device.create_cq(options.completions, this, channel_.get(), 0),
                                 "creating a receive CQ")),
      receive_cq_(options.receive_cq != nullptr ? options.receive_cq : own_receive_cq_.get()),
      qp_(make_queue_pair(device, pd_, send_cq_, receive_cq_, options, granted_)) {}

EndpointFacts Endpoint::facts() {
  ibv_port_attr attr{};
  must("querying the port", device_.query_port(port, attr));
  EndpointFacts facts{};
  facts.qp_number = qp_->qp_num;
  facts.packet_sequence = (qp_->qp_num * 977U) & 0xff'ffff;  // any, and different between queue pairs
  facts.lid = attr.lid;
  must("querying the GID", device_.query_gid(port, device_.preferred_gid_index(port), facts.gid));
  return facts;
}

void Endpoint::connect(const EndpointFacts& peer) {
  to_init();
  to_rtr(peer);
  to_rts();
}

void Endpoint::to_init() {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = port;
  attr.qp_access_flags = options_.access;
  attr.qkey = datagram_key;
  const int more = options_.type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS;
  must("to INIT", device_.modify_qp(qp_.get(), attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | more));
}

void Endpoint::to_rtr(const EndpointFacts& peer) {
  ibv_port_attr port_attr{};
  must("querying the port", device_.query_port(port, port_attr));
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = std::min(port_attr.active_mtu, IBV_MTU_1024);
  attr.dest_qp_num = peer.qp_number;
  attr.rq_psn = peer.packet_sequence;
  attr.max_dest_rd_atomic = options_.reads;
  attr.min_rnr_timer = options_.receiver_not_ready_timer;
  attr.ah_attr.dlid = peer.lid;
  attr.ah_attr.port_num = port;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.grh.dgid = peer.gid;
  attr.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(device_.preferred_gid_index(port));
  attr.ah_attr.grh.hop_limit = 64;
  int mask = IBV_QP_STATE;
  if (options_.type != IBV_QPT_UD) mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  if (options_.type == IBV_QPT_RC) mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  must("to RTR", device_.modify_qp(qp_.get(), attr, mask));
}

void Endpoint::to_rts() {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTS;
  attr.sq_psn = facts().packet_sequence;
  attr.timeout = options_.ack_timeout_exponent;
  attr.retry_cnt = options_.retries;
  attr.rnr_retry = options_.receiver_not_ready_retries;
  attr.max_rd_atomic = options_.reads;
  int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
  if (options_.type == IBV_QPT_RC) {
    mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  }
  must("to RTS", device_.modify_qp(qp_.get(), attr, mask));
}

int Endpoint::to(ibv_qp_state state) {
  ibv_qp_attr attr{};
  attr.qp_state = state;
  return device_.modify_qp(qp_.get(), attr, IBV_QP_STATE);
}

ibv_qp_state Endpoint::state() {
  ibv_qp_attr attr{};
  ibv_qp_init_attr init{};
  must("querying the queue pair", device_.query_qp(qp_.get(), attr, IBV_QP_STATE, init));
  return attr.qp_state;
}

Buffer& Endpoint::buffer(std::size_t size, MemoryKind kind, int access) {
  return buffers_.emplace_back(device_, pd_, size, access, kind);
}

int Endpoint::try_post(const Work& work) {
  std::vector<Work> chain{work};
  std::size_t bad = 0;
  return try_post(chain, bad);
}

int Endpoint::try_post(std::vector<Work>& chain, std::size_t& bad) {
  for (std::size_t i = 0; i < chain.size(); ++i) {
    ibv_send_wr& request = chain[i].request;
    request.sg_list = chain[i].pieces.data();
    request.num_sge = static_cast<int>(chain[i].pieces.size());
    request.next = i + 1 < chain.size() ? &chain[i + 1].request : nullptr;
  }
  ibv_send_wr* refused = nullptr;
  const int error = ibv_post_send(qp_.get(), &chain.front().request, &refused);
  bad = chain.size();
  for (std::size_t i = 0; error != 0 && i < chain.size(); ++i) {
    if (refused == &chain[i].request) bad = i;
  }
  return error;
}

int Endpoint::try_post_receive(const Pieces& pieces, std::uint64_t id) {
  Pieces list = pieces;
  ibv_recv_wr request{};
  request.wr_id = id;
  request.sg_list = list.data();
  request.num_sge = static_cast<int>(list.size());
  ibv_recv_wr* bad = nullptr;
  const int error = ibv_post_recv(qp_.get(), &request, &bad);
  names_refused_receive_ = bad == &request;
  return error;
}

void Endpoint::post(const Work& work) {
  must("posting to the send queue", try_post(work));
}

void Endpoint::post_receive(const Pieces& pieces, std::uint64_t id) {
  must("posting a receive", try_post_receive(pieces, id));
}

ibv_wc Endpoint::next(ibv_cq* cq, const char* what) {
  ibv_wc completion{};
  int found = 0;
  // As programs poll: on a busy machine each yield costs milliseconds, and soft0 looks for a lone send's
  // acknowledgement once in dozens of polls.
  constexpr int polls_between_yields = 64;
  wait_until(what, [&] {
    for (int i = 0; i < polls_between_yields && found == 0; ++i) found = ibv_poll_cq(cq, 1, &completion);
    return found != 0;
  });
  if (found < 0) throw std::runtime_error("the completion queue failed");
  return completion;
}

bool Endpoint::nothing(ibv_cq* cq) {
  ibv_wc completion{};
  return ibv_poll_cq(cq, 1, &completion) == 0;
}

void Endpoint::must(const char* what, int error) {
  if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

}  // namespace verbena::test
