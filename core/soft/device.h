// SPDX-License-Identifier: Apache-2.0
/// soft0 as a core::Device: one method a verb.
#pragma once

#include <infiniband/verbs.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "core/device.h"
#include "core/soft/context.h"
#include "core/soft/lending.h"
#include "core/soft/limits.h"
#include "core/soft/null_memory.h"
#include "core/soft/soft_device.h"

namespace verbena::core::soft {

/// How a verb that returns an object fails.
template <class T>
T* refuse(int error) {
  errno = error;
  return nullptr;
}

class SoftDevice final : public Device {
 public:
  SoftDevice(std::optional<FaultPlan> plan, PeerDeath death) : node_(*this, plan, death) {}
  /// Takes its queue pairs with it, as a device does whose program closes it without having destroyed them:
  /// peers hear of it, and nothing of them stays in the system.
  ~SoftDevice() override;

  std::string_view name() const noexcept override { return "soft0"; }
  DeviceKind kind() const noexcept override { return DeviceKind::software; }
  ibv_context* context() noexcept override { return node_.verbs(); }
  bool is_faulty() const noexcept override { return node_.plan() || node_.trace(); }

  int query_device(ibv_device_attr& attr) override {
    describe_device(attr);
    return 0;
  }
  int query_port(std::uint8_t port, ibv_port_attr& attr) override {
    if (port != 1) return EINVAL;
    describe_port(attr);
    return 0;
  }
  int query_gid(std::uint8_t port, int index, ibv_gid& gid) override;
  int query_gid_entry(std::uint8_t port, int index, ibv_gid_entry& entry) override;
  int query_pkey(std::uint8_t port, int index, __be16& pkey) override {
    if (port != 1 || index != 0) return EINVAL;
    pkey = 0xffff;  // the default partition; the same in either byte order
    return 0;
  }
  int preferred_gid_index(std::uint8_t) override { return 0; }

  ibv_pd* alloc_pd() override;
  int dealloc_pd(ibv_pd* pd) override;
  ibv_mr* reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) override;
  ibv_mr* reg_mr_iova(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova, int access) override;
  ibv_mr* reg_shared_mr(ibv_pd* pd, const SharedRange& range, int access) override;
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
  int attach_mcast(ibv_qp* qp, const ibv_gid& group, std::uint16_t lid) override;
  int detach_mcast(ibv_qp* qp, const ibv_gid& group, std::uint16_t lid) override;
  ibv_qp_ex* qp_to_qp_ex(ibv_qp* qp) noexcept override {
    return static_cast<QueuePair*>(qp)->batch ? &static_cast<QueuePair*>(qp)->face() : nullptr;
  }

  // ---- What libibverbs' inline functions take from the context: slots.cc ----
  ibv_cq_ex* create_cq_ex(const ibv_cq_init_attr_ex& init);
  ibv_qp* create_qp_ex(ibv_qp_init_attr_ex& init);
  ibv_mr* alloc_null_mr(ibv_pd* pd);
  ibv_td* alloc_td(const ibv_td_init_attr& init);
  int dealloc_td(ibv_td* td);
  ibv_pd* alloc_parent_domain(const ibv_parent_domain_init_attr& init);
  int bind_mw(ibv_qp* qp, ibv_mw* mw, const ibv_mw_bind& bind);
  // xrc.cc
  ibv_xrcd* open_xrcd(const ibv_xrcd_init_attr& init);
  int close_xrcd(ibv_xrcd* xrcd);
  ibv_srq* create_srq_ex(ibv_srq_init_attr_ex& init);
  int get_srq_num(ibv_srq* srq, std::uint32_t& number);

  Lending* lending() noexcept override { return &lending_; }

  int get_async_event(ibv_async_event& event) override { return node_.events().get(event); }
  void ack_async_event(ibv_async_event&) override {
  }  // nothing waits for it: destroying forgets pending events

 private:
  ibv_qp* create_xrc_receiver(ibv_qp_init_attr_ex& init);
  QueuePair* make_queue_pair(ibv_pd* pd, ibv_qp_init_attr& init);
  ibv_mr* reg(ibv_pd* pd, void* address, std::size_t length, int access, const SharedRange* shared);

  Context node_;
  SoftLending lending_{node_};
  NullMemory null_memory_;                           // guarded by the node's mutex
  std::set<std::uint16_t> domains_;                  // numbers in use; guarded by the node's mutex
  std::vector<std::weak_ptr<XrcSpace>> xrc_spaces_;  // of files; likewise
};

}  // namespace verbena::core::soft
