// SPDX-License-Identifier: Apache-2.0
/// The calls that are measured: the responding side gives the request back.
#pragma once

#include <verbena/rpc.h>
#include <cstdint>

#include "tools/local_address.h"
#include "tools/perf/session.h"

namespace verbena::tools {

constexpr rpc::MethodId echo_method = 1;

/// Connects to the call server that the responding side has opened for the test.
inline rpc::Client connect_for_calls(Session& session, const Answer& answer) {
  return rpc::connect(session.loop(), with_port(session.address(), static_cast<std::uint16_t>(answer.port)));
}

}  // namespace verbena::tools
