// SPDX-License-Identifier: Apache-2.0
/// What `verbena top` shows at a time, for people.
#pragma once

#include <verbena/snapshot.h>

#include <string>
#include <vector>

namespace verbena::tools {

/// A process, and those of its loops that have answered.
struct LiveProcess {
  pid_t process = 0;
  std::string command;
  std::vector<Snapshot> loops;
  std::size_t silent = 0;  ///< loops that don't answer
};

/// Everything since each loop was made.
std::string draw_totals(const std::vector<LiveProcess>& processes);

/// Rates and latencies since `earlier`; of a loop that wasn't there then, since it was made.
std::string draw_rates(const std::vector<LiveProcess>& processes, const std::vector<LiveProcess>& earlier);

}  // namespace verbena::tools
