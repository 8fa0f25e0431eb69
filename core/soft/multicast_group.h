// SPDX-License-Identifier: Apache-2.0
/// Multicast groups of datagrams. Each member of a group has one of its places: a Unix datagram socket, whose
/// abstract name is the group's GID and the place's number. Who sends to a group sends to each place; where
/// nobody is, nothing happens. So there is no list of members that a process could leave behind.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>

#include "core/soft/shared_file.h"

struct sockaddr_un;

namespace verbena::core::soft {

/// Queue pairs in one group at most: a sender's work, too.
inline constexpr std::uint32_t most_group_members = 64;

/// ff00::/8, or an IPv4-mapped address of 224.0.0.0/4.
bool is_multicast_gid(const ibv_gid& gid) noexcept;

/// The name of a place; its length.
unsigned int name_group_place(sockaddr_un& name, const ibv_gid& group, std::uint32_t place) noexcept;

/// A place in the group; empty with errno, ENOMEM where it is full.
Descriptor join_group(const ibv_gid& group) noexcept;

}  // namespace verbena::core::soft
