// SPDX-License-Identifier: Apache-2.0
/// `verbena perf … --listen`, and the second process of a measurement on one machine: does what the measuring
/// side orders.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace verbena::tools {

struct ResponderPlan {
  std::string listen;  ///< empty: the test is of the floor alone
  std::string device;
  std::uint64_t size = 1 << 20;  ///< the longest message that may come
  std::uint32_t depth = 128;     ///< messages under way
  std::optional<int> core;
  int floor = -1;    ///< the floor's descriptor; -1: the other side is on another host
  int channel = -1;  ///< to a first process; -1: a person started this
};

/// For a first process: until it has finished. Else one measurement after the other, until stopped.
void respond(const ResponderPlan& plan);

}  // namespace verbena::tools
