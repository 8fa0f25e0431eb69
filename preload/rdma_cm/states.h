// SPDX-License-Identifier: Apache-2.0
/// What an id goes through.
#pragma once

#include <cstdint>

namespace verbena::preload::rdma_cm {

enum class State : std::uint8_t {
  idle,
  bound,  ///< it has a port
  listening,
  address_found,  ///< the active end, on its way …
  route_found,
  connecting,  ///< … its request is under way
  answered,    ///< … the passive end has accepted; the program hasn't confirmed yet
  arriving,    ///< the passive end: a connection whose request hasn't come yet
  requested,   ///< … the program is asked
  accepted,    ///< … it has said yes; the active end hasn't confirmed yet
  connected,
  over,  ///< rejected, disconnected, or the other end has gone
};

/// Whether the one may follow the other.
bool may_follow(State from, State to) noexcept;

}  // namespace verbena::preload::rdma_cm
