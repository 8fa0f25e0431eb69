// SPDX-License-Identifier: Apache-2.0
// What is asked of an open device: its attributes, its ports, its addresses, its asynchronous events.
#include <infiniband/verbs.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "core/soft/gid_table.h"
#include "core/soft/soft_device.h"
#include "preload/real.h"

#undef ibv_query_port

using verbena::core::Device;
using verbena::core::soft_device_of;

// Private to rdma-core, and in none of its headers; ibv_devinfo calls it. 0: RoCE v1 or InfiniBand, 1: RoCE
// v2.
extern "C" int ibv_query_gid_type(ibv_context* context, std::uint8_t port, unsigned int index, int* type);

namespace {

/// The man pages' other convention: -1 with errno.
int minus_one(int error) noexcept {
  if (error == 0) return 0;
  errno = error;
  return -1;
}

int port_of(std::uint32_t port) noexcept {
  return port <= 255 ? static_cast<int>(port) : 0;
}

/// Whose event it is; nullptr for one of a port, which is acknowledged by doing nothing, on any device.
ibv_context* context_of(const ibv_async_event& event) noexcept {
  switch (event.event_type) {
    case IBV_EVENT_CQ_ERR:
      return event.element.cq->context;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return event.element.qp->context;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      return event.element.srq->context;
    default:
      return nullptr;
  }
}

}  // namespace

VERBENA_EXPORT int ibv_query_device(ibv_context* context, ibv_device_attr* attr) {
  if (Device* const soft = soft_device_of(context)) return soft->query_device(*attr);
  return REAL(ibv_query_device)(context, attr);
}

// Reached by programs of before the context's own slot alone, whose structure ends with `link_layer`,
// `flags`.
VERBENA_EXPORT int ibv_query_port(ibv_context* context, std::uint8_t port, _compat_ibv_port_attr* attr) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(ibv_query_port)(context, port, attr);
  ibv_port_attr described{};
  const int error = soft->query_port(port, described);
  constexpr std::size_t size_then = offsetof(ibv_port_attr, port_cap_flags2);
  if (error == 0) std::memcpy(static_cast<void*>(attr), &described, size_then);
  return error;
}

VERBENA_EXPORT int ibv_query_gid(ibv_context* context, std::uint8_t port, int index, ibv_gid* gid) {
  if (Device* const soft = soft_device_of(context)) return minus_one(soft->query_gid(port, index, *gid));
  return REAL(ibv_query_gid)(context, port, index, gid);
}

VERBENA_EXPORT int _ibv_query_gid_ex(ibv_context* context, std::uint32_t port, std::uint32_t index,
                                     ibv_gid_entry* entry, std::uint32_t flags, std::size_t entry_size) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(_ibv_query_gid_ex, "IBVERBS_1.11")(context, port, index, entry, flags, entry_size);
  if (flags != 0) return EINVAL;
  ibv_gid_entry found{};
  const int error =
      soft->query_gid_entry(static_cast<std::uint8_t>(port_of(port)), static_cast<int>(index), found);
  if (error == 0) std::memcpy(entry, &found, std::min(entry_size, sizeof found));
  return error;
}

VERBENA_EXPORT ssize_t _ibv_query_gid_table(ibv_context* context, ibv_gid_entry* entries, std::size_t most,
                                            std::uint32_t flags, std::size_t entry_size) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(_ibv_query_gid_table, "IBVERBS_1.11")(context, entries, most, flags, entry_size);
  if (flags != 0) return -EINVAL;
  const std::vector<ibv_gid_entry> found = verbena::core::soft::gid_entries();
  if (found.size() > most) return -EINVAL;
  auto* place = reinterpret_cast<std::byte*>(entries);
  for (const ibv_gid_entry& entry : found) {
    std::memcpy(place, &entry, std::min(entry_size, sizeof entry));
    place += entry_size;
  }
  return static_cast<ssize_t>(found.size());
}

VERBENA_EXPORT int ibv_query_gid_type(ibv_context* context, std::uint8_t port, unsigned int index,
                                      int* type) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(ibv_query_gid_type, "IBVERBS_PRIVATE_34")(context, port, index, type);
  ibv_gid_entry found{};
  if (const int error = soft->query_gid_entry(port, static_cast<int>(index), found)) return minus_one(error);
  *type = found.gid_type == IBV_GID_TYPE_ROCE_V2 ? 1 : 0;
  return 0;
}

VERBENA_EXPORT int ibv_query_pkey(ibv_context* context, std::uint8_t port, int index, __be16* pkey) {
  if (Device* const soft = soft_device_of(context)) return minus_one(soft->query_pkey(port, index, *pkey));
  return REAL(ibv_query_pkey)(context, port, index, pkey);
}

VERBENA_EXPORT int ibv_get_pkey_index(ibv_context* context, std::uint8_t port, __be16 wanted) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(ibv_get_pkey_index, "IBVERBS_1.5")(context, port, wanted);
  __be16 pkey = 0;
  for (int index = 0; soft->query_pkey(port, index, pkey) == 0; ++index) {
    if (pkey == wanted) return index;
  }
  return minus_one(ENOENT);
}

VERBENA_EXPORT int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  if (Device* const soft = soft_device_of(context)) return soft->get_async_event(*event);
  return REAL(ibv_get_async_event)(context, event);
}

VERBENA_EXPORT void ibv_ack_async_event(ibv_async_event* event) {
  if (Device* const soft = soft_device_of(context_of(*event))) return soft->ack_async_event(*event);
  REAL(ibv_ack_async_event)(event);
}
