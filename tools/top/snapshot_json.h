// SPDX-License-Identifier: Apache-2.0
/// A Loop's answer, read back.
#pragma once

#include <verbena/snapshot.h>

#include <nlohmann/json_fwd.hpp>

namespace verbena::tools {

/// What verbena::json() wrote. Counters that are missing (another version's) are 0; throws
/// nlohmann::json::exception where it isn't a snapshot.
Snapshot snapshot_of(const nlohmann::ordered_json& json);

}  // namespace verbena::tools
