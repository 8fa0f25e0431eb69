// SPDX-License-Identifier: Apache-2.0
/// What soft0 says of itself in ibv_query_device(3) and ibv_query_port(3).
#pragma once

#include <infiniband/verbs.h>

namespace verbena::core::soft {

inline constexpr int max_work_requests = 32768;
inline constexpr int max_completions = 1 << 20;
inline constexpr int max_reads = 128;

void describe_device(ibv_device_attr& attr) noexcept;
void describe_port(ibv_port_attr& attr) noexcept;
/// The same for all processes that can reach each other: made of the host's boot and the network namespace,
/// in which abstract sockets live.
ibv_gid host_gid() noexcept;
/// The same as it was when this was first called: a process stays in its namespace.
const ibv_gid& host_gid_once() noexcept;

}  // namespace verbena::core::soft
