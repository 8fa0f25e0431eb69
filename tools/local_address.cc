// SPDX-License-Identifier: Apache-2.0
#include "tools/local_address.h"

#include <fmt/format.h>

#include <verbena/address.h>
#include <verbena/devices.h>
#include <verbena/error.h>
#include <algorithm>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

bool usable(const DeviceInfo& device) {
  const auto active = [](const PortInfo& port) { return port.active; };
  return device.problem.empty() && std::any_of(device.ports.begin(), device.ports.end(), active);
}

const DeviceInfo& choose(const std::vector<DeviceInfo>& devices, const std::string& name) {
  std::string names;
  for (const DeviceInfo& device : devices) {
    if (name.empty() ? usable(device) : device.name == name) return device;
    names += (names.empty() ? "" : ", ") + device.name;
  }
  if (name.empty()) throw Failure(fmt::format("no device of this machine can be used: {}.", names));
  throw Failure(fmt::format("there is no device '{}' here; choose one of {} ('verbena info' shows them).",
                            name, names));
}

/// "10.9.0.1" of "::ffff:10.9.0.1"; an IPv6 address in brackets; nothing where it reaches no further than a
/// link.
std::string host_of(const GidInfo& gid) {
  constexpr std::string_view mapped = "::ffff:", link_local = "fe80";
  const std::string& address = gid.address;
  if (address.starts_with(mapped) && address.find('.') != std::string::npos)
    return address.substr(mapped.size());
  return address.starts_with(link_local) ? std::string{} : fmt::format("[{}]", address);
}

}  // namespace

std::string local_address(const std::string& name) {
  const std::vector<DeviceInfo> devices = describe_devices();
  const DeviceInfo& device = choose(devices, name);
  if (!device.problem.empty())
    throw Failure(fmt::format("{} can't be used: {}", device.name, device.problem));
  if (device.kind == "software") return "soft://127.0.0.1:0";
  for (const GidInfo& gid : device.gids)
    if (const std::string host = host_of(gid); gid.preferred && !host.empty())
      return fmt::format("{}://{}:0", device.name, host);
  throw Failure(
      fmt::format("{} has no address that two processes could meet at; give its network interface "
                  "one, or use --listen and --connect.",
                  device.name));
}

void check_address(std::string_view address) {
  try {
    Address::parse(address);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

std::string device_for(std::string_view address, const std::string& device) {
  const Address parsed = Address::parse(address);
  if (parsed.scheme == "soft") return "soft0";
  return parsed.names_device() ? parsed.scheme : device;
}

std::string with_port(std::string_view address, std::uint16_t port) {
  Address other = Address::parse(address);
  other.port = port;
  return other.to_string();
}

std::string kind_of_device(std::string_view name) {
  for (const DeviceInfo& device : describe_devices())
    if (device.name == name) return device.kind;
  return {};
}

}  // namespace verbena::tools
