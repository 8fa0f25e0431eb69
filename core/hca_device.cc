// SPDX-License-Identifier: Apache-2.0
#include "core/hca_device.h"

#include <netinet/in.h>

#include <cerrno>
#include <cstring>

namespace verbena::core {
namespace {

bool is_ipv4_mapped(const ibv_gid& gid) {
  in6_addr address;
  std::memcpy(&address, gid.raw, sizeof address);
  return IN6_IS_ADDR_V4MAPPED(&address);
}

}  // namespace

HcaDevice::HcaDevice(ibv_context* context)
    : context_(context),
      commands_(context->cmd_fd),
      events_(context->async_fd),
      name_(ibv_get_device_name(context->device)) {
  constexpr std::uint32_t softroce_vendor = 0xffffff;  // RXE_VENDOR_ID of Linux: no vendor's number
  ibv_device_attr attr{};
  is_softroce_ = query_device(attr) == 0 && attr.vendor_id == softroce_vendor;
}

HcaDevice::~HcaDevice() {
  if (!is_of_this_process()) return;
  commands_ = {};  // first, as its numbers may be another's then
  events_ = {};
  ibv_close_device(context_);
}

int HcaDevice::query_device(ibv_device_attr& attr) {
  return ibv_query_device(context_, &attr);
}

int HcaDevice::query_port(std::uint8_t port, ibv_port_attr& attr) {
  return ibv_query_port(context_, port, &attr);
}

int HcaDevice::query_gid(std::uint8_t port, int index, ibv_gid& gid) {
  return ibv_query_gid(context_, port, index, &gid) == 0 ? 0 : (errno != 0 ? errno : EINVAL);
}

int HcaDevice::query_gid_entry(std::uint8_t port, int index, ibv_gid_entry& entry) {
  return ibv_query_gid_ex(context_, port, static_cast<std::uint32_t>(index), &entry, 0);
}

int HcaDevice::query_pkey(std::uint8_t port, int index, __be16& pkey) {
  return ibv_query_pkey(context_, port, index, &pkey) == 0 ? 0 : (errno != 0 ? errno : EINVAL);
}

int HcaDevice::preferred_gid_index(std::uint8_t port) {
  ibv_port_attr attr{};
  if (query_port(port, attr) != 0) return 0;
  for (int index = 0; index < attr.gid_tbl_len; ++index) {
    ibv_gid_entry entry{};
    // An empty slot of the table answers ENODATA; the next one may be in use.
    if (query_gid_entry(port, index, entry) != 0) continue;
    if (entry.gid_type == IBV_GID_TYPE_ROCE_V2 && is_ipv4_mapped(entry.gid)) return index;
  }
  return 0;
}

ibv_pd* HcaDevice::alloc_pd() {
  return ibv_alloc_pd(context_);
}
int HcaDevice::dealloc_pd(ibv_pd* pd) {
  return ibv_dealloc_pd(pd);
}

ibv_mr* HcaDevice::reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) {
  // The function behind the macro: the macro picks it or reg_mr_iova2 by whether `access` is a constant.
  return reg_mr_iova(pd, address, length, reinterpret_cast<std::uintptr_t>(address), access);
}

ibv_mr* HcaDevice::reg_mr_iova(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova,
                               int access) {
  return ibv_reg_mr_iova2(pd, address, length, iova, static_cast<unsigned int>(access));
}

ibv_mr* HcaDevice::reg_shared_mr(ibv_pd* pd, const SharedRange& range, int access) {
  return reg_mr(pd, range.address, range.length, access);
}

ibv_mr* HcaDevice::reg_dmabuf_mr(ibv_pd* pd, std::uint64_t offset, std::size_t length, std::uint64_t iova,
                                 int fd, int access) {
  return ibv_reg_dmabuf_mr(pd, offset, length, iova, fd, access);
}

int HcaDevice::rereg_mr(ibv_mr* mr, int flags, ibv_pd* pd, void* address, std::size_t length, int access) {
  return ibv_rereg_mr(mr, flags, pd, address, length, access);
}
int HcaDevice::dereg_mr(ibv_mr* mr) {
  return ibv_dereg_mr(mr);
}

ibv_mw* HcaDevice::alloc_mw(ibv_pd* pd, ibv_mw_type type) {
  return ibv_alloc_mw(pd, type);
}
int HcaDevice::dealloc_mw(ibv_mw* mw) {
  return ibv_dealloc_mw(mw);
}

ibv_ah* HcaDevice::create_ah(ibv_pd* pd, ibv_ah_attr& attr) {
  return ibv_create_ah(pd, &attr);
}
int HcaDevice::destroy_ah(ibv_ah* ah) {
  return ibv_destroy_ah(ah);
}

ibv_comp_channel* HcaDevice::create_comp_channel() {
  return ibv_create_comp_channel(context_);
}
int HcaDevice::destroy_comp_channel(ibv_comp_channel* channel) {
  return ibv_destroy_comp_channel(channel);
}

int HcaDevice::get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  return ibv_get_cq_event(channel, cq, cq_context);
}

void HcaDevice::ack_cq_events(ibv_cq* cq, unsigned int count) {
  ibv_ack_cq_events(cq, count);
}

ibv_cq* HcaDevice::create_cq(int entries, void* cq_context, ibv_comp_channel* channel, int comp_vector) {
  return ibv_create_cq(context_, entries, cq_context, channel, comp_vector);
}
int HcaDevice::resize_cq(ibv_cq* cq, int entries) {
  return ibv_resize_cq(cq, entries);
}
int HcaDevice::destroy_cq(ibv_cq* cq) {
  return ibv_destroy_cq(cq);
}

ibv_srq* HcaDevice::create_srq(ibv_pd* pd, ibv_srq_init_attr& init) {
  return ibv_create_srq(pd, &init);
}
int HcaDevice::modify_srq(ibv_srq* srq, ibv_srq_attr& attr, int mask) {
  return ibv_modify_srq(srq, &attr, mask);
}
int HcaDevice::query_srq(ibv_srq* srq, ibv_srq_attr& attr) {
  return ibv_query_srq(srq, &attr);
}
int HcaDevice::destroy_srq(ibv_srq* srq) {
  return ibv_destroy_srq(srq);
}

ibv_qp* HcaDevice::create_qp(ibv_pd* pd, ibv_qp_init_attr& init) {
  return ibv_create_qp(pd, &init);
}
int HcaDevice::modify_qp(ibv_qp* qp, ibv_qp_attr& attr, int mask) {
  return ibv_modify_qp(qp, &attr, mask);
}
int HcaDevice::query_qp(ibv_qp* qp, ibv_qp_attr& attr, int mask, ibv_qp_init_attr& init) {
  return ibv_query_qp(qp, &attr, mask, &init);
}
int HcaDevice::destroy_qp(ibv_qp* qp) {
  return ibv_destroy_qp(qp);
}
ibv_qp_ex* HcaDevice::qp_to_qp_ex(ibv_qp* qp) noexcept {
  return ibv_qp_to_qp_ex(qp);
}

int HcaDevice::get_async_event(ibv_async_event& event) {
  return ibv_get_async_event(context_, &event);
}
void HcaDevice::ack_async_event(ibv_async_event& event) {
  ibv_ack_async_event(&event);
}

}  // namespace verbena::core
