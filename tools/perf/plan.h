// SPDX-License-Identifier: Apache-2.0
/// What the user asked `verbena perf` for, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/common/cores.h"
#include "tools/perf/test_kind.h"

namespace verbena {
struct Options;
}  // namespace verbena

namespace verbena::tools {

/// What the measuring side's one-sided operations take their bytes from, or bring them to.
enum class LocalMemory : std::uint8_t { pool, shared, unregistered };

struct Plan {
  TestKind test = TestKind::floor;
  std::string device;                ///< empty: the best
  std::vector<std::uint64_t> sizes;  ///< bytes
  std::uint64_t iterations = 0;      ///< a size; 0: as many as `seconds` give
  std::optional<double> seconds;     ///< a size; one of the two is given, and the first reached ends it
  std::uint32_t depth = 0;           ///< in flight; 0: by size
  LocalMemory memory = LocalMemory::pool;
  bool json = false;
  std::string connect;            ///< the other host's listener; empty: both sides on this machine
  std::optional<CorePair> cores;  ///< nothing: not pinned
};

/// Refuses sizes that the test can't have. Throws UsageError.
void check_sizes(const TestTraits& test, const std::vector<std::uint64_t>& sizes);

/// In flight for operations of `size` bytes: 128, but no more than 64 MiB in all.
std::uint32_t depth_for(const Plan& plan, std::uint64_t size);

/// The longest message that the test sends; one-sided operations are none.
std::uint64_t longest_message(const Plan& plan);

/// What the Loop of a side is opened with, for messages of at most `most` bytes and `depth` operations in
/// flight.
Options loop_options(const std::string& device, std::uint64_t most, std::uint32_t depth, bool pinned);

}  // namespace verbena::tools
