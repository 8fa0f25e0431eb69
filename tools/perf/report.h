// SPDX-License-Identifier: Apache-2.0
/// A measurement's figures, for people and as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "tools/common/samples.h"
#include "tools/common/table.h"
#include "tools/perf/plan.h"
#include "tools/perf/session.h"

namespace verbena::tools {

/// What one size gave.
struct Result {
  std::uint64_t size = 0;
  std::size_t iterations = 0;
  Distribution latency;
  std::optional<double> floor_ns;
  double operations_per_s = 0;
  std::uint32_t depth = 1;
  std::optional<double> memcpy_bytes_per_s;
  std::size_t rounds = 0;
  std::size_t discarded = 0;
  bool unsettled = false;
};

/// Prints results as they come.
class Report {
 public:
  Report(const Plan& plan, const std::string& device);

  /// What stands above the table; nothing for JSON.
  void print_header(const std::string& path, std::optional<double> floor_ns);
  void print(const Result& result);
  /// What people have to know to read the figures.
  void print_footer();

 private:
  void print_json(const Result& result) const;
  void print_row(const Result& result);

  const Plan& plan_;
  const TestTraits& test_;
  std::string device_;
  Table table_;
  std::size_t rounds_ = 0;
  std::size_t discarded_ = 0;
  bool unsettled_ = false;
};

}  // namespace verbena::tools
