// SPDX-License-Identifier: Apache-2.0
/// The RDMA devices of this machine, as values to show or to choose by: what `verbena info` prints.
///
/// A snapshot: nothing stays open. Thread safety: any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace verbena {

struct PortInfo {
  int number = 0;
  std::string state;       ///< "active", "down", "init", "armed", …
  std::string link_layer;  ///< "Ethernet", "InfiniBand", "none"
  int active_mtu = 0;      ///< bytes of payload a packet
  int max_mtu = 0;
  double speed_gbits = 0;  ///< width × lane rate; 0 where the device doesn't say
  bool active = false;
};

/// One entry of a port's table of addresses.
struct GidInfo {
  int port = 0;
  int index = 0;
  std::string address;     ///< "::ffff:10.9.0.1", "fe80::1"
  std::string type;        ///< "InfiniBand", "RoCE v1", "RoCE v2"; empty where unknown
  bool preferred = false;  ///< Verbena reaches peers by this one
};

struct DeviceLimits {
  int max_qp = 0;
  int max_qp_wr = 0;
  int max_sge = 0;
  int max_cqe = 0;
  int max_mr = 0;
  int max_mw = 0;
  int max_srq_wr = 0;  ///< 0: no shared receive queues
  int max_reads = 0;   ///< outstanding reads and atomics of a queue pair
  std::uint64_t max_mr_size = 0;
  std::optional<int> max_inline;  ///< bytes; found by trying
  std::string atomics;            ///< "none", "device" (among this device's users), "host" (with the CPU too)
};

struct DeviceInfo {
  std::string name;
  std::string kind;  ///< "hardware" (an HCA, or the kernel's SoftRoCE), "software"
  std::string firmware;
  std::string vendor;  ///< "vendor 0x2c9, part 4123"
  std::vector<PortInfo> ports;
  std::vector<GidInfo> gids;
  DeviceLimits limits;
  std::string problem;  ///< why it can't be used, the remedy included; empty when it can
};

/// Every device: real ones first, then soft0. A device that can't be opened is listed with its problem.
std::vector<DeviceInfo> describe_devices();

/// Whether `plan` is a fault plan of soft0 (docs/fault-plan.md). Throws Error (invalid_argument) that names
/// the word that is wrong and those that there are.
void check_fault_plan(std::string_view plan);

/// Makes `path` a file that soft0's traffic can be traced into (docs/soft0.md), unless it is one. Throws
/// Error (invalid_argument) with what is in the way.
void prepare_trace(const std::string& path);

}  // namespace verbena
