// SPDX-License-Identifier: Apache-2.0
/// The command line of `verbena perf`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace verbena::tools {

/// What was given, unchecked.
struct PerfArguments {
  std::string test, device, listen, connect, cores, memory;
  std::vector<std::string> sizes;
  std::optional<std::uint64_t> iterations;
  std::optional<double> seconds;
  std::optional<std::uint32_t> depth;
  bool json = false;
  // What a first process starts the second one with.
  bool respond = false;
  int floor = -1, channel = -1, core = -1;
};

void add_perf_options(CLI::App& app, PerfArguments& arguments);
/// Checks the arguments, and measures or responds. Throws UsageError, Failure, Error.
void run_perf(const PerfArguments& arguments);

}  // namespace verbena::tools
