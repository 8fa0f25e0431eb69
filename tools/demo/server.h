// SPDX-License-Identifier: Apache-2.0
/// The serving side of the demonstration: answers calls, and exposes a file's pages to one-sided reads.
#pragma once

#include <optional>
#include <string>

namespace verbena::tools {

struct ServerPlan {
  std::string address;
  std::string file;
  std::string device;
  std::optional<int> core;
  int channel = -1;  ///< where a first process waits for the address; it is served alone, and not in words
};

/// Serves until the process is stopped or, for a first process, until that one is done.
void serve(const ServerPlan& plan);

}  // namespace verbena::tools
