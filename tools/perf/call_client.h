// SPDX-License-Identifier: Apache-2.0
/// The calls that are measured: the responding side gives the request back, or a word of it.
#pragma once

#include <verbena/rpc.h>
#include <cstdint>

#include "tools/local_address.h"
#include "tools/perf/session.h"

namespace verbena::tools {

constexpr rpc::MethodId echo_method = 1;
constexpr rpc::MethodId stamp_method = 2;  ///< answers with the sum of the request's first and last byte

/// What stamp_method answers.
inline std::uint64_t stamp_of(rpc::Bytes request) noexcept {
  return static_cast<std::uint64_t>(request.front()) + static_cast<std::uint64_t>(request.back());
}

/// Connects to the call server that the responding side has opened for the test.
inline rpc::Client connect_for_calls(Session& session, const Answer& answer) {
  return rpc::connect(session.loop(), with_port(session.address(), static_cast<std::uint16_t>(answer.port)));
}

}  // namespace verbena::tools
