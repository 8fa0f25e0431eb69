// SPDX-License-Identifier: Apache-2.0
#include "tools/info.h"

#include <fmt/format.h>

#include <verbena/devices.h>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/common/table.h"
#include "tools/common/units.h"
#include "tools/device_json.h"

namespace verbena::tools {
namespace {

std::string show(int count) {
  return show_count(static_cast<std::uint64_t>(count));
}

std::string port_line(const PortInfo& port) {
  std::string line =
      fmt::format("{} {}, {}, MTU {}", port.number, port.state, port.link_layer, port.active_mtu);
  if (port.active_mtu != port.max_mtu) line += fmt::format(" of {}", port.max_mtu);
  if (port.speed_gbits > 0) line += fmt::format(", {:g} Gbit/s", port.speed_gbits);
  return line;
}

std::string gid_line(const GidInfo& gid) {
  std::string line = fmt::format("{}.{}  {}", gid.port, gid.index, pad_right(gid.address, 24));
  if (!gid.type.empty()) line += "  " + gid.type;
  return gid.preferred ? line + "  (used)" : line;
}

/// Devices without a limit name the largest number that they can.
std::string show_region_size(std::uint64_t bytes) {
  constexpr std::uint64_t beyond_any_memory = std::uint64_t{1} << 60;
  return bytes < beyond_any_memory ? "up to " + show_size(bytes) : "any size";
}

void print_limits(const DeviceLimits& limits) {
  const std::string most_inline =
      limits.max_inline ? show(*limits.max_inline) + " B inline" : "inline unknown";
  const std::string shared_receives = limits.max_srq_wr > 0
                                          ? show(limits.max_srq_wr) + " a shared receive queue"
                                          : "no shared receive queues";
  const auto line = [](std::string_view name, const std::string& value) {
    fmt::print("{}", fact(name, value));
  };
  line("queues", fmt::format("{} pairs, {} requests each, {} pieces a request, {}", show(limits.max_qp),
                             show(limits.max_qp_wr), show(limits.max_sge), most_inline));
  line("", fmt::format("{} completions a queue, {}", show(limits.max_cqe), shared_receives));
  line("memory", fmt::format("{} regions of {}, {} windows", show(limits.max_mr),
                             show_region_size(limits.max_mr_size), show(limits.max_mw)));
  line("reads", fmt::format("{} outstanding a pair; atomics: {}", show(limits.max_reads), limits.atomics));
}

void print_device(const DeviceInfo& device) {
  std::string title = fmt::format("{}  {}", device.name, device.kind);
  if (!device.vendor.empty()) title += ", " + device.vendor;
  if (!device.firmware.empty()) title += ", firmware " + device.firmware;
  fmt::print("{}\n", title);
  if (!device.problem.empty()) {
    fmt::print("{}", fact("unusable", device.problem));
    return;
  }
  for (const PortInfo& port : device.ports) fmt::print("{}", fact("port", port_line(port)));
  for (const GidInfo& gid : device.gids) fmt::print("{}", fact("address", gid_line(gid)));
  print_limits(device.limits);
}

}  // namespace

void info(bool as_json) {
  const std::vector<DeviceInfo> devices = describe_devices();
  if (as_json) {
    fmt::print("{}\n", to_json(devices).dump(2));
    return;
  }
  for (const DeviceInfo& device : devices) {
    if (&device != &devices.front()) fmt::print("\n");
    print_device(device);
  }
}

}  // namespace verbena::tools
