// SPDX-License-Identifier: Apache-2.0
/// All that a Loop knows of itself at one moment, as a value, and as text for others.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "verbena/statistics.h"

namespace verbena {

/// Made by Loop::snapshot(), in the loop's thread; from then on anybody's.
struct Snapshot {
  pid_t process = 0;
  std::uint32_t loop = 0;  ///< which of the process's: 0 is the first that it made
  std::string device;
  std::int64_t age_ns = 0;  ///< since the loop was made
  std::size_t connections = 0;
  std::uint32_t peers = 0;  ///< connections that it has room for
  std::size_t pinned_bytes = 0;
  std::size_t kept_bytes = 0;        ///< of the program's memory, whose registration is kept for its next use
  std::uint32_t latency_sample = 0;  ///< Options::latency_sample: what a recorded time stands for
  Statistics counters;
  std::vector<rpc::MethodStatistics> methods;  ///< clients' first, each role in the order of ids
};

/// A counter of Statistics, as json() and prometheus() name it.
struct CounterName {
  const char* name;
  const char* help;
  std::uint64_t Statistics::*value;
};
/// All of them, in their order.
std::span<const CounterName> counter_names() noexcept;

/// One line of JSON, without the line's end; docs/observing.md has its fields.
std::string json(const Snapshot& snapshot);

/// For Prometheus: its text exposition format 0.0.4 (Content-Type "text/plain; version=0.0.4"). Give it all
/// of a program's snapshots at once, since each metric may stand in the text but once. Labels: loop, device,
/// method, role; and pid, where the snapshots are of several processes.
std::string prometheus(std::span<const Snapshot> snapshots);
inline std::string prometheus(const Snapshot& snapshot) {
  return prometheus(std::span(&snapshot, 1));
}

}  // namespace verbena
