// SPDX-License-Identifier: Apache-2.0
/// A progress bar on a terminal, for what lasts longer than a second. Elsewhere it shows nothing.
#pragma once

#include <cstdint>
#include <string>

namespace verbena::tools {

class Progress {
 public:
  /// `label` stands behind the bar: "send-latency, 64 B".
  explicit Progress(std::string label);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// `fraction` done, 0 to 1. Draws at most ten times a second; otherwise costs one clock reading.
  void update(double fraction);

 private:
  std::string label_;
  std::uint64_t started_ns_;
  std::uint64_t drawn_ns_ = 0;
  bool terminal_;
};

/// Takes a bar off the terminal where one stands. Safe in a signal handler.
void clear_progress_line() noexcept;

}  // namespace verbena::tools
