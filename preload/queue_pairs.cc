// SPDX-License-Identifier: Apache-2.0
// Queue pairs, shared receive queues, address handles, multicast groups.
#include <infiniband/verbs.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "core/soft/gid_table.h"
#include "core/soft/network_header.h"
#include "core/soft/soft_device.h"
#include "preload/real.h"

using verbena::core::Device;
using verbena::core::soft_device_of;
using verbena::core::soft::DatagramPath;
using verbena::core::soft::gid_index_of;
using verbena::core::soft::path_of;

namespace {

/// Where a datagram came from, as where to send one. 0; or an errno value: it came to no address of this
/// host, to a multicast group say, so none is there to answer from.
int answer_to(const ibv_wc& wc, const ibv_grh& grh, std::uint8_t port, ibv_ah_attr& attr) {
  attr = {};
  attr.dlid = wc.slid;
  attr.sl = wc.sl;
  attr.src_path_bits = wc.dlid_path_bits;
  attr.port_num = port;
  if (!(wc.wc_flags & IBV_WC_GRH)) return 0;
  const DatagramPath path = path_of(grh);
  const int own = gid_index_of(path.destination);
  if (own < 0) return EINVAL;
  attr.is_global = 1;
  attr.grh.dgid = path.source;
  attr.grh.sgid_index = static_cast<std::uint8_t>(own);
  attr.grh.hop_limit = 0xff;
  return 0;
}

}  // namespace

VERBENA_EXPORT ibv_srq* ibv_create_srq(ibv_pd* pd, ibv_srq_init_attr* init) {
  if (Device* const soft = soft_device_of(pd->context)) return soft->create_srq(pd, *init);
  return REAL(ibv_create_srq)(pd, init);
}

VERBENA_EXPORT int ibv_modify_srq(ibv_srq* srq, ibv_srq_attr* attr, int mask) {
  if (Device* const soft = soft_device_of(srq->context)) return soft->modify_srq(srq, *attr, mask);
  return REAL(ibv_modify_srq)(srq, attr, mask);
}

VERBENA_EXPORT int ibv_query_srq(ibv_srq* srq, ibv_srq_attr* attr) {
  if (Device* const soft = soft_device_of(srq->context)) return soft->query_srq(srq, *attr);
  return REAL(ibv_query_srq)(srq, attr);
}

VERBENA_EXPORT int ibv_destroy_srq(ibv_srq* srq) {
  if (Device* const soft = soft_device_of(srq->context)) return soft->destroy_srq(srq);
  return REAL(ibv_destroy_srq)(srq);
}

VERBENA_EXPORT ibv_qp* ibv_create_qp(ibv_pd* pd, ibv_qp_init_attr* init) {
  if (Device* const soft = soft_device_of(pd->context)) return soft->create_qp(pd, *init);
  return REAL(ibv_create_qp)(pd, init);
}

VERBENA_EXPORT int ibv_modify_qp(ibv_qp* qp, ibv_qp_attr* attr, int mask) {
  if (Device* const soft = soft_device_of(qp->context)) return soft->modify_qp(qp, *attr, mask);
  return REAL(ibv_modify_qp)(qp, attr, mask);
}

VERBENA_EXPORT int ibv_query_qp(ibv_qp* qp, ibv_qp_attr* attr, int mask, ibv_qp_init_attr* init) {
  if (Device* const soft = soft_device_of(qp->context)) return soft->query_qp(qp, *attr, mask, *init);
  return REAL(ibv_query_qp)(qp, attr, mask, init);
}

VERBENA_EXPORT int ibv_query_qp_data_in_order(ibv_qp* qp, ibv_wr_opcode opcode, std::uint32_t flags) {
  if (soft_device_of(qp->context)) return 0;  // nothing is promised
  return REAL(ibv_query_qp_data_in_order, "IBVERBS_1.14")(qp, opcode, flags);
}

VERBENA_EXPORT int ibv_destroy_qp(ibv_qp* qp) {
  if (Device* const soft = soft_device_of(qp->context)) return soft->destroy_qp(qp);
  return REAL(ibv_destroy_qp)(qp);
}

VERBENA_EXPORT ibv_qp_ex* ibv_qp_to_qp_ex(ibv_qp* qp) {
  if (Device* const soft = soft_device_of(qp->context)) return soft->qp_to_qp_ex(qp);
  return REAL(ibv_qp_to_qp_ex, "IBVERBS_1.6")(qp);
}

VERBENA_EXPORT int ibv_query_ece(ibv_qp* qp, ibv_ece* ece) {
  if (soft_device_of(qp->context)) return EOPNOTSUPP;
  return REAL(ibv_query_ece, "IBVERBS_1.10")(qp, ece);
}

VERBENA_EXPORT int ibv_set_ece(ibv_qp* qp, ibv_ece* ece) {
  if (soft_device_of(qp->context)) return EOPNOTSUPP;
  return REAL(ibv_set_ece, "IBVERBS_1.10")(qp, ece);
}

VERBENA_EXPORT ibv_ah* ibv_create_ah(ibv_pd* pd, ibv_ah_attr* attr) {
  if (Device* const soft = soft_device_of(pd->context)) return soft->create_ah(pd, *attr);
  return REAL(ibv_create_ah)(pd, attr);
}

VERBENA_EXPORT int ibv_init_ah_from_wc(ibv_context* context, std::uint8_t port, ibv_wc* wc, ibv_grh* grh,
                                       ibv_ah_attr* attr) {
  if (!soft_device_of(context)) return REAL(ibv_init_ah_from_wc)(context, port, wc, grh, attr);
  const int error = answer_to(*wc, *grh, port, *attr);
  if (error == 0) return 0;
  errno = error;
  return -1;
}

VERBENA_EXPORT ibv_ah* ibv_create_ah_from_wc(ibv_pd* pd, ibv_wc* wc, ibv_grh* grh, std::uint8_t port) {
  Device* const soft = soft_device_of(pd->context);
  if (!soft) return REAL(ibv_create_ah_from_wc)(pd, wc, grh, port);
  ibv_ah_attr attr;
  if (const int error = answer_to(*wc, *grh, port, attr)) {
    errno = error;
    return nullptr;
  }
  return soft->create_ah(pd, attr);
}

VERBENA_EXPORT int ibv_destroy_ah(ibv_ah* ah) {
  if (Device* const soft = soft_device_of(ah->context)) return soft->destroy_ah(ah);
  return REAL(ibv_destroy_ah)(ah);
}

VERBENA_EXPORT int ibv_resolve_eth_l2_from_gid(ibv_context* context, ibv_ah_attr* attr,
                                               std::uint8_t mac[ETHERNET_LL_SIZE], std::uint16_t* vlan) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(ibv_resolve_eth_l2_from_gid)(context, attr, mac, vlan);
  ibv_gid source;
  if (const int error = soft->query_gid(attr->port_num, attr->grh.sgid_index, source)) return error;
  // There is no Ethernet below: an address of the kind that anybody may give, the same for the same GID.
  constexpr std::uint8_t locally_administered = 0x02;
  mac[0] = locally_administered;
  std::memcpy(mac + 1, attr->grh.dgid.raw + sizeof attr->grh.dgid - (ETHERNET_LL_SIZE - 1),
              ETHERNET_LL_SIZE - 1);
  constexpr std::uint16_t none = 0xffff;
  if (vlan) *vlan = none;
  return 0;
}

VERBENA_EXPORT int ibv_attach_mcast(ibv_qp* qp, const ibv_gid* gid, std::uint16_t lid) {
  if (Device* const soft = soft_device_of(qp->context)) return soft->attach_mcast(qp, *gid, lid);
  return REAL(ibv_attach_mcast)(qp, gid, lid);
}

VERBENA_EXPORT int ibv_detach_mcast(ibv_qp* qp, const ibv_gid* gid, std::uint16_t lid) {
  if (Device* const soft = soft_device_of(qp->context)) return soft->detach_mcast(qp, *gid, lid);
  return REAL(ibv_detach_mcast)(qp, gid, lid);
}
