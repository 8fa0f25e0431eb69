// SPDX-License-Identifier: Apache-2.0
/// A device that makes nothing, and writes down what is destroyed.
#pragma once

#include <cerrno>
#include <string>

#include "core/device.h"

namespace verbena::test {

class RecordingDevice final : public core::Device {
 public:
  /// The kinds of the objects destroyed so far, in order: "qp cq pd ".
  const std::string& destroyed() const { return destroyed_; }
  /// What each destroy answers from now on.
  void fail_with(int error) { error_ = error; }

  std::string_view name() const noexcept override { return "recording"; }
  core::DeviceKind kind() const noexcept override { return core::DeviceKind::software; }
  ibv_context* context() noexcept override { return nullptr; }

  int query_device(ibv_device_attr&) override { return EOPNOTSUPP; }
  int query_port(std::uint8_t, ibv_port_attr&) override { return EOPNOTSUPP; }
  int query_gid(std::uint8_t, int, ibv_gid&) override { return EOPNOTSUPP; }
  int query_gid_entry(std::uint8_t, int, ibv_gid_entry&) override { return EOPNOTSUPP; }
  int query_pkey(std::uint8_t, int, __be16&) override { return EOPNOTSUPP; }
  int preferred_gid_index(std::uint8_t) override { return 0; }

  ibv_pd* alloc_pd() override { return nothing(); }
  int dealloc_pd(ibv_pd*) override { return record("pd"); }
  ibv_mr* reg_mr(ibv_pd*, void*, std::size_t, int) override { return nothing(); }
  ibv_mr* reg_shared_mr(ibv_pd*, const core::SharedRange&, int) override { return nothing(); }
  int dereg_mr(ibv_mr*) override { return record("mr"); }
  ibv_mw* alloc_mw(ibv_pd*, ibv_mw_type) override { return nothing(); }
  int dealloc_mw(ibv_mw*) override { return record("mw"); }

  ibv_ah* create_ah(ibv_pd*, ibv_ah_attr&) override { return nothing(); }
  int destroy_ah(ibv_ah*) override { return record("ah"); }

  ibv_comp_channel* create_comp_channel() override { return nothing(); }
  int destroy_comp_channel(ibv_comp_channel*) override { return record("channel"); }
  int get_cq_event(ibv_comp_channel*, ibv_cq**, void**) override { return -1; }
  void ack_cq_events(ibv_cq*, unsigned int) override {}
  ibv_cq* create_cq(int, void*, ibv_comp_channel*, int) override { return nothing(); }
  int destroy_cq(ibv_cq*) override { return record("cq"); }

  ibv_srq* create_srq(ibv_pd*, ibv_srq_init_attr&) override { return nothing(); }
  int modify_srq(ibv_srq*, ibv_srq_attr&, int) override { return EOPNOTSUPP; }
  int query_srq(ibv_srq*, ibv_srq_attr&) override { return EOPNOTSUPP; }
  int destroy_srq(ibv_srq*) override { return record("srq"); }

  ibv_qp* create_qp(ibv_pd*, ibv_qp_init_attr&) override { return nothing(); }
  int modify_qp(ibv_qp*, ibv_qp_attr&, int) override { return EOPNOTSUPP; }
  int query_qp(ibv_qp*, ibv_qp_attr&, int, ibv_qp_init_attr&) override { return EOPNOTSUPP; }
  int destroy_qp(ibv_qp*) override { return record("qp"); }

  int get_async_event(ibv_async_event&) override { return -1; }
  void ack_async_event(ibv_async_event&) override {}

 private:
  static std::nullptr_t nothing() {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  int record(const char* kind) {
    destroyed_ += kind;
    destroyed_ += ' ';
    return error_;
  }

  std::string destroyed_;
  int error_ = 0;
};

}  // namespace verbena::test
