// SPDX-License-Identifier: Apache-2.0
/// Where the ends of connections meet: Unix sockets under abstract names, which are gone with their process,
/// however it dies. A name holds the user, the port space, the port and the address, so that each user of the
/// host has ports of his own, and processes meet that share a network namespace.
#pragma once

#include <cstdint>

#include "core/soft/shared_file.h"
#include "preload/rdma_cm/address.h"

namespace verbena::preload::rdma_cm {

/// A port space of rdma_user_cm.h (RDMA_PS_TCP …), and what RDMA_OPTION_ID_AFONLY asks for.
struct PortSpace {
  std::uint16_t number;
  bool one_family;  ///< the unspecified IPv6 address doesn't stand for IPv4's, too
};

/// Takes a port for a new socket: that of `address`, or a free one where it is 0, which is written there.
/// Empty with errno: EADDRINUSE, or EADDRNOTAVAIL where the port is taken for an unspecified address or is to
/// be, as the kernel has it; or what the system refused.
core::soft::Descriptor take_port(PortSpace space, Address& address);

/// Lets others connect. 0 or errno.
int start_listening(int socket, int backlog) noexcept;

/// Connects to who listens at `address`. 0 or errno: ECONNREFUSED where nobody of this user does, EAGAIN
/// where too many wait there already.
int meet(int socket, PortSpace space, const Address& address) noexcept;

/// The next connection of this user's that waits; others' are closed. Empty: there is none now.
core::soft::Descriptor accept_next(int listener) noexcept;

}  // namespace verbena::preload::rdma_cm
