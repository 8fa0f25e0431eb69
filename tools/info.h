// SPDX-License-Identifier: Apache-2.0
/// `verbena info`: the devices of this machine, their ports, addresses and limits.
#pragma once

namespace verbena::tools {

/// Prints to stdout: for people, or as one JSON object {"version", "devices": […]}.
void info(bool as_json);

}  // namespace verbena::tools
