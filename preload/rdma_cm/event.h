// SPDX-License-Identifier: Apache-2.0
/// Something that has happened to an id, as its channel gives it to the program.
#pragma once

#include <rdma/rdma_user_cm.h>

#include <cstdint>
#include <optional>

namespace verbena::preload::rdma_cm {

/// The numbers of rdma_cm_event_type, which the interface passes as they are.
enum class EventKind : std::uint32_t {
  address_resolved = 0,
  address_error,
  route_resolved,
  route_error,
  connect_request,
  connect_response,
  connect_error,
  unreachable,
  rejected,
  established,
  disconnected,
  device_removal,
  multicast_join,
  multicast_error,
  address_change,
  timewait_exit,
};

using Handle = std::uint32_t;

struct Event {
  rdma_ucm_event_resp response{};
  Handle counted_on = 0;            ///< the id that counts it as reported
  std::optional<Handle> multicast;  ///< the membership that counts it, too
  std::optional<Handle> new_id;     ///< of a connection request: who comes with it
};

}  // namespace verbena::preload::rdma_cm
