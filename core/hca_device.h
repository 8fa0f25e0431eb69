// SPDX-License-Identifier: Apache-2.0
/// A device of libibverbs, an HCA or the kernel's SoftRoCE: one direct call a method.
#pragma once

#include <string>

#include "core/device.h"

namespace verbena::core {

class HcaDevice final : public Device {
 public:
  /// Takes over the opened `context`, and closes it.
  explicit HcaDevice(ibv_context* context);
  ~HcaDevice() override;

  std::string_view name() const noexcept override { return name_; }
  DeviceKind kind() const noexcept override { return DeviceKind::hca; }
  ibv_context* context() noexcept override { return context_; }

  bool may_misreport_reads() const noexcept override { return is_softroce_; }

  int query_device(ibv_device_attr& attr) override;
  int query_port(std::uint8_t port, ibv_port_attr& attr) override;
  int query_gid(std::uint8_t port, int index, ibv_gid& gid) override;
  int query_gid_entry(std::uint8_t port, int index, ibv_gid_entry& entry) override;
  int query_pkey(std::uint8_t port, int index, __be16& pkey) override;
  int preferred_gid_index(std::uint8_t port) override;

  ibv_pd* alloc_pd() override;
  int dealloc_pd(ibv_pd* pd) override;

  ibv_mr* reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) override;
  ibv_mr* reg_mr_iova(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova, int access) override;
  ibv_mr* reg_shared_mr(ibv_pd* pd, const SharedRange& range, int access) override;
  ibv_mr* reg_dmabuf_mr(ibv_pd* pd, std::uint64_t offset, std::size_t length, std::uint64_t iova, int fd,
                        int access) override;
  int rereg_mr(ibv_mr* mr, int flags, ibv_pd* pd, void* address, std::size_t length, int access) override;
  int dereg_mr(ibv_mr* mr) override;
  ibv_mw* alloc_mw(ibv_pd* pd, ibv_mw_type type) override;
  int dealloc_mw(ibv_mw* mw) override;

  ibv_ah* create_ah(ibv_pd* pd, ibv_ah_attr& attr) override;
  int destroy_ah(ibv_ah* ah) override;

  ibv_comp_channel* create_comp_channel() override;
  int destroy_comp_channel(ibv_comp_channel* channel) override;
  int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) override;
  void ack_cq_events(ibv_cq* cq, unsigned int count) override;

  ibv_cq* create_cq(int entries, void* cq_context, ibv_comp_channel* channel, int comp_vector) override;
  int resize_cq(ibv_cq* cq, int entries) override;
  int destroy_cq(ibv_cq* cq) override;

  ibv_srq* create_srq(ibv_pd* pd, ibv_srq_init_attr& init) override;
  int modify_srq(ibv_srq* srq, ibv_srq_attr& attr, int mask) override;
  int query_srq(ibv_srq* srq, ibv_srq_attr& attr) override;
  int destroy_srq(ibv_srq* srq) override;

  ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr& init) override;
  int modify_qp(ibv_qp* qp, ibv_qp_attr& attr, int mask) override;
  int query_qp(ibv_qp* qp, ibv_qp_attr& attr, int mask, ibv_qp_init_attr& init) override;
  int destroy_qp(ibv_qp* qp) override;
  int attach_mcast(ibv_qp* qp, const ibv_gid& group, std::uint16_t lid) override {
    return ibv_attach_mcast(qp, &group, lid);
  }
  int detach_mcast(ibv_qp* qp, const ibv_gid& group, std::uint16_t lid) override {
    return ibv_detach_mcast(qp, &group, lid);
  }
  ibv_qp_ex* qp_to_qp_ex(ibv_qp* qp) noexcept override;

  int get_async_event(ibv_async_event& event) override;
  void ack_async_event(ibv_async_event& event) override;

 private:
  ibv_context* context_;
  ClosedInChildren commands_;
  ClosedInChildren events_;
  std::string name_;
  bool is_softroce_ = false;
};

}  // namespace verbena::core
