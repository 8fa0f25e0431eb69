// SPDX-License-Identifier: Apache-2.0
/// soft0's GIDs: by which addresses its port is known. All are RoCE v2's.
///
/// Index 0 is the host's own (host_gid): always there, whatever the network looks like. Behind it stand the
/// addresses of the interfaces that are up, an IPv4 address as an IPv4-mapped one: real interfaces before the
/// loopback one, then by interface, IPv4 before IPv6, then by address. So processes that open the device
/// while the same addresses are there see the same table.
///
/// The table is read again whenever it is asked. An address that stays keeps its index for as long as the
/// process lives; one that has gone leaves its place empty, for the next that comes.
///
/// Thread-safe.
#pragma once

#include <infiniband/verbs.h>

#include <optional>
#include <vector>

namespace verbena::core::soft {

/// Places, and so ibv_port_attr::gid_tbl_len. Addresses beyond it aren't listed.
inline constexpr int gid_table_length = 64;

/// What stands at `index`; nothing where the place is empty or there is none. Index 0 has no interface.
std::optional<ibv_gid_entry> gid_at(int index);
/// All, by their index.
std::vector<ibv_gid_entry> gid_entries();
/// Where `gid` stands; -1: it isn't one of this host's.
int gid_index_of(const ibv_gid& gid);
/// The same by what the table was when it was last read, if it is there: to be asked often.
bool is_gid_of_this_host(const ibv_gid& gid);

}  // namespace verbena::core::soft
