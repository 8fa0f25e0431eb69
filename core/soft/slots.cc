// SPDX-License-Identifier: Apache-2.0
// The set-up verbs that libibverbs' inline functions take from the context itself, not from the library. A
// slot that stays empty answers EOPNOTSUPP, as on a device without the capability.
#include <algorithm>
#include <cstring>

#include "core/monotonic_ns.h"
#include "core/soft/context.h"
#include "core/soft/device.h"
#include "core/soft/limits.h"
#include "core/soft/soft_device.h"

namespace verbena::core::soft {
namespace {

/// Structures of verbs grow at their end: fills as much as the caller's has, and zeroes what we don't know.
template <class T>
void fill(T* to, std::size_t size, const T& from) noexcept {
  std::memcpy(to, &from, std::min(size, sizeof from));
  if (size > sizeof from) std::memset(reinterpret_cast<std::byte*>(to) + sizeof from, 0, size - sizeof from);
}

int query_port(ibv_context* context, std::uint8_t port, ibv_port_attr* attr, std::size_t size) {
  ibv_port_attr described{};
  const int error = soft_device_of(context)->query_port(port, described);
  if (error == 0) fill(attr, size, described);
  return error;
}

int query_device_ex(ibv_context* context, const ibv_query_device_ex_input* input, ibv_device_attr_ex* attr,
                    std::size_t size) {
  if ((input && input->comp_mask != 0) || size < sizeof attr->orig_attr) return EINVAL;
  ibv_device_attr_ex described{};
  const int error = soft_device_of(context)->query_device(described.orig_attr);
  described.device_cap_flags_ex = described.orig_attr.device_cap_flags;
  // Times are those of CLOCK_MONOTONIC, all 64 bits of it.
  constexpr std::uint64_t khz_of_ns = 1'000'000;
  described.completion_timestamp_mask = ~std::uint64_t{0};
  described.hca_core_clock = khz_of_ns;
  described.phys_port_cnt_ex = described.orig_attr.phys_port_cnt;
  if (error == 0) fill(attr, size, described);
  return error;
}

/// A device's clock is a count of its cycles, which stands in `tv_nsec`, as HCAs' drivers have it.
int query_rt_values(ibv_context*, ibv_values_ex* values) {
  const std::uint32_t wanted = values->comp_mask;
  values->comp_mask = wanted & IBV_VALUES_MASK_RAW_CLOCK;
  if (wanted & ~std::uint32_t{IBV_VALUES_MASK_RAW_CLOCK}) return EINVAL;
  if (wanted != 0) values->raw_clock = {0, static_cast<long>(monotonic_ns())};
  return 0;
}

SoftDevice& soft(ibv_context* context) noexcept {
  return *static_cast<SoftDevice*>(soft_device_of(context));
}

}  // namespace

void Context::install_slots() noexcept {
  verbs_.query_port = query_port;
  verbs_.query_device_ex = query_device_ex;
  verbs_.query_rt_values = query_rt_values;
  verbs_.create_cq_ex = [](ibv_context* context, ibv_cq_init_attr_ex* init) {
    return soft(context).create_cq_ex(*init);
  };
  verbs_.create_qp_ex = [](ibv_context* context, ibv_qp_init_attr_ex* init) {
    return soft(context).create_qp_ex(*init);
  };
  verbs_.open_xrcd = [](ibv_context* context, ibv_xrcd_init_attr* init) {
    return soft(context).open_xrcd(*init);
  };
  verbs_.close_xrcd = [](ibv_xrcd* xrcd) { return soft(xrcd->context).close_xrcd(xrcd); };
  verbs_.create_srq_ex = [](ibv_context* context, ibv_srq_init_attr_ex* init) {
    return soft(context).create_srq_ex(*init);
  };
  verbs_.get_srq_num = [](ibv_srq* srq, std::uint32_t* number) {
    return soft(srq->context).get_srq_num(srq, *number);
  };
  verbs_.alloc_null_mr = [](ibv_pd* pd) { return soft(pd->context).alloc_null_mr(pd); };
  verbs_.alloc_td = [](ibv_context* context, ibv_td_init_attr* init) {
    return soft(context).alloc_td(*init);
  };
  verbs_.dealloc_td = [](ibv_td* td) { return soft(td->context).dealloc_td(td); };
  verbs_.alloc_parent_domain = [](ibv_context* context, ibv_parent_domain_init_attr* init) {
    return soft(context).alloc_parent_domain(*init);
  };
  ibv_context_ops& ops = verbs_.context.ops;
  ops.bind_mw = [](ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind) {
    return soft(mw->context).bind_mw(qp, mw, *bind);
  };
  ops.alloc_mw = [](ibv_pd* pd, ibv_mw_type type) { return soft_device_of(pd->context)->alloc_mw(pd, type); };
  ops.dealloc_mw = [](ibv_mw* mw) { return soft_device_of(mw->context)->dealloc_mw(mw); };
}

}  // namespace verbena::core::soft
