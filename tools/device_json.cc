// SPDX-License-Identifier: Apache-2.0
#include "tools/device_json.h"

#include <nlohmann/json.hpp>

namespace verbena::tools {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

template <typename Value>
Json list(const std::vector<Value>& values, Json (*one)(const Value&)) {
  Json array = Json::array();
  for (const Value& value : values) array.push_back(one(value));
  return array;
}

Json of_port(const PortInfo& port) {
  return {{"number", port.number},          {"state", port.state},           {"active", port.active},
          {"link_layer", port.link_layer},  {"active_mtu", port.active_mtu}, {"max_mtu", port.max_mtu},
          {"speed_gbits", port.speed_gbits}};
}

Json of_gid(const GidInfo& gid) {
  return {{"port", gid.port},
          {"index", gid.index},
          {"address", gid.address},
          {"type", or_null(gid.type)},
          {"preferred", gid.preferred}};
}

Json of_limits(const DeviceLimits& limits) {
  return {{"max_qp", limits.max_qp},
          {"max_qp_wr", limits.max_qp_wr},
          {"max_sge", limits.max_sge},
          {"max_cqe", limits.max_cqe},
          {"max_mr", limits.max_mr},
          {"max_mr_size", limits.max_mr_size},
          {"max_mw", limits.max_mw},
          {"max_srq_wr", limits.max_srq_wr},
          {"max_reads", limits.max_reads},
          {"max_inline", limits.max_inline ? Json(*limits.max_inline) : Json(nullptr)},
          {"atomics", limits.atomics}};
}

Json of_device(const DeviceInfo& device) {
  return {{"name", device.name},
          {"kind", device.kind},
          {"firmware", or_null(device.firmware)},
          {"vendor", or_null(device.vendor)},
          {"problem", or_null(device.problem)},
          {"ports", list(device.ports, of_port)},
          {"gids", list(device.gids, of_gid)},
          {"limits", of_limits(device.limits)}};
}

}  // namespace

nlohmann::ordered_json to_json(const std::vector<DeviceInfo>& devices) {
  return {{"version", VERBENA_VERSION}, {"devices", list(devices, of_device)}};
}

}  // namespace verbena::tools
