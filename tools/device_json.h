// SPDX-License-Identifier: Apache-2.0
/// The devices as JSON: {"version", "devices": [{"name", "kind", …, "ports", "gids", "limits", "problem"}]}.
/// Field names are those of <verbena/devices.h>; what is unknown is null.
#pragma once

#include <verbena/devices.h>

#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace verbena::tools {

nlohmann::ordered_json to_json(const std::vector<DeviceInfo>& devices);

}  // namespace verbena::tools
