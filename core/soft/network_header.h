// SPDX-License-Identifier: Apache-2.0
/// The 40 bytes in front of each datagram that has come, as RoCE v2 leaves them: an IPv6 header; or, between
/// IPv4-mapped GIDs, an IPv4 header in the last 20 bytes.
#pragma once

#include <infiniband/verbs.h>
#include <netinet/ip.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/soft/datagram_port.h"

namespace verbena::core::soft {

using NetworkHeader = std::array<std::byte, sizeof(ibv_grh)>;
static_assert(sizeof(ibv_grh) == 40);

/// The header of IPv4 in front of `length` bytes of UDP, between GIDs that stand for such addresses.
iphdr ipv4_header(const DatagramPath& path, std::size_t length) noexcept;
/// The header of IPv6, which is also verbs' global route header, in front of `length` bytes.
ibv_grh ipv6_header(const DatagramPath& path, std::size_t length, std::uint8_t next_header) noexcept;

NetworkHeader network_header(const DatagramPath& path, std::uint32_t payload) noexcept;

/// Whom such a header says that the datagram came from, and to whom: any bytes are read as one or the other.
DatagramPath path_of(const ibv_grh& header) noexcept;

/// Whether a GID stands for an IPv4 address.
bool is_ipv4_mapped(const ibv_gid& gid) noexcept;
/// The Internet's checksum of a header of 16-bit words in network order, whose own place for it holds zero;
/// of a whole header 0.
std::uint16_t internet_checksum(const std::byte* header, std::size_t length) noexcept;

}  // namespace verbena::core::soft
