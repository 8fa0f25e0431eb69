// SPDX-License-Identifier: Apache-2.0
#include "verbena/devices.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/device.h"
#include "core/handle.h"
#include "core/soft/fault_plan.h"
#include "core/soft/trace.h"

namespace verbena {
namespace {

using core::Device;
using core::DeviceKind;
using core::Handle;

const char* state_in_words(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_NOP:
      return "none";
    case IBV_PORT_DOWN:
      return "down";
    case IBV_PORT_INIT:
      return "init";
    case IBV_PORT_ARMED:
      return "armed";
    case IBV_PORT_ACTIVE:
      return "active";
    case IBV_PORT_ACTIVE_DEFER:
      return "active, deferred";
  }
  return "unknown";
}

const char* link_layer_in_words(std::uint8_t link_layer) {
  switch (link_layer) {
    case IBV_LINK_LAYER_INFINIBAND:
      return "InfiniBand";
    case IBV_LINK_LAYER_ETHERNET:
      return "Ethernet";
    default:
      return "none";
  }
}

int bytes_of(ibv_mtu mtu) {
  return mtu < IBV_MTU_256 || mtu > IBV_MTU_4096 ? 0 : 128 << mtu;
}

/// The codes of ibv_query_port(3).
double speed_of(std::uint8_t width, std::uint8_t speed) {
  const int lanes = width == 1 ? 1 : width == 2 ? 4 : width == 4 ? 8 : width == 8 ? 12 : width == 16 ? 2 : 0;
  switch (speed) {
    case 1:
      return lanes * 2.5;
    case 2:
      return lanes * 5.0;
    case 4:
    case 8:
      return lanes * 10.0;
    case 16:
      return lanes * 14.0;
    case 32:
      return lanes * 25.0;
    case 64:
      return lanes * 50.0;
    case 128:
      return lanes * 100.0;
    default:
      return 0;
  }
}

PortInfo describe_port(int number, const ibv_port_attr& attr) {
  PortInfo info;
  info.number = number;
  info.state = state_in_words(attr.state);
  info.link_layer = link_layer_in_words(attr.link_layer);
  info.active_mtu = bytes_of(attr.active_mtu);
  info.max_mtu = bytes_of(attr.max_mtu);
  info.speed_gbits = speed_of(attr.active_width, attr.active_speed);
  info.active = attr.state == IBV_PORT_ACTIVE;
  return info;
}

const char* gid_type_in_words(Device& device, std::uint8_t port, int index) {
  ibv_gid_entry entry{};
  if (device.query_gid_entry(port, index, entry) != 0) return "";
  switch (entry.gid_type) {
    case IBV_GID_TYPE_IB:
      return "InfiniBand";
    case IBV_GID_TYPE_ROCE_V1:
      return "RoCE v1";
    case IBV_GID_TYPE_ROCE_V2:
      return "RoCE v2";
    default:
      return "";
  }
}

void describe_gids(Device& device, std::uint8_t port, int table_length, std::vector<GidInfo>& gids) {
  const int preferred = device.preferred_gid_index(port);
  for (int index = 0; index < table_length; ++index) {
    ibv_gid gid{};
    if (device.query_gid(port, index, gid) != 0) continue;
    if (std::all_of(std::begin(gid.raw), std::end(gid.raw), [](std::uint8_t byte) { return byte == 0; }))
      continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(AF_INET6, gid.raw, text.data(), text.size());
    gids.push_back({port, index, text.data(), gid_type_in_words(device, port, index), index == preferred});
  }
}

const char* atomics_in_words(ibv_atomic_cap cap) {
  switch (cap) {
    case IBV_ATOMIC_NONE:
      return "none";
    case IBV_ATOMIC_HCA:
      return "device";
    case IBV_ATOMIC_GLOB:
      return "host";
  }
  return "unknown";
}

/// No query tells it: the largest power of two, or of HCAs' usual odd sizes, that a queue pair can be made
/// with.
std::optional<int> find_inline_limit(Device& device) {
  const Handle<ibv_pd> pd{device, device.alloc_pd()};
  const Handle<ibv_cq> cq{device, device.create_cq(1, nullptr, nullptr, 0)};
  if (!pd || !cq) return std::nullopt;
  for (const std::uint32_t size : {4096U, 2048U, 1024U, 956U, 828U, 512U, 256U, 220U, 128U, 64U, 32U, 0U}) {
    ibv_qp_init_attr init{};
    init.qp_type = IBV_QPT_RC;
    init.send_cq = cq.get();
    init.recv_cq = cq.get();
    init.cap = {1, 1, 1, 1, size};
    if (const Handle<ibv_qp> qp{device, device.create_qp(pd.get(), init)}) {
      return static_cast<int>(std::max(size, init.cap.max_inline_data));
    }
  }
  return std::nullopt;
}

DeviceLimits describe_limits(Device& device, const ibv_device_attr& attr) {
  DeviceLimits limits;
  limits.max_qp = attr.max_qp;
  limits.max_qp_wr = attr.max_qp_wr;
  limits.max_sge = attr.max_sge;
  limits.max_cqe = attr.max_cqe;
  limits.max_mr = attr.max_mr;
  limits.max_mw = attr.max_mw;
  limits.max_srq_wr = attr.max_srq_wr;
  limits.max_reads = attr.max_qp_rd_atom;
  limits.max_mr_size = attr.max_mr_size;
  limits.max_inline = find_inline_limit(device);
  limits.atomics = atomics_in_words(attr.atomic_cap);
  return limits;
}

void describe(Device& device, DeviceInfo& info) {
  ibv_device_attr attr{};
  if (const int error = device.query_device(attr)) {
    info.problem = fmt::format("ibv_query_device failed: {}", std::generic_category().message(error));
    return;
  }
  info.firmware = attr.fw_ver;
  info.vendor = fmt::format("vendor {:#x}, part {}", attr.vendor_id, attr.vendor_part_id);
  info.limits = describe_limits(device, attr);
  for (int port = 1; port <= attr.phys_port_cnt; ++port) {
    const auto number = static_cast<std::uint8_t>(port);
    ibv_port_attr port_attr{};
    if (device.query_port(number, port_attr) != 0) continue;
    info.ports.push_back(describe_port(port, port_attr));
    describe_gids(device, number, port_attr.gid_tbl_len, info.gids);
  }
  if (std::none_of(info.ports.begin(), info.ports.end(), [](const PortInfo& port) { return port.active; })) {
    info.problem = "no port is active: look at the cable, or at the network interface below it (`ip link`)";
  }
}

}  // namespace

std::vector<DeviceInfo> describe_devices() {
  std::vector<DeviceInfo> devices;
  for (const core::DeviceName& name : core::list_devices()) {
    DeviceInfo& info = devices.emplace_back();
    info.name = name.name;
    info.kind = name.kind == DeviceKind::hca ? "hardware" : "software";
    try {
      describe(*core::open_device(name.name), info);
    } catch (const std::system_error& error) {
      info.problem = error.what();
    }
  }
  return devices;
}

void check_fault_plan(std::string_view plan) {
  core::soft::FaultPlan::parse(plan);
}

void prepare_trace(const std::string& path) {
  core::soft::prepare_trace(path);
}

}  // namespace verbena
