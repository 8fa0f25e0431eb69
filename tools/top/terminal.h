// SPDX-License-Identifier: Apache-2.0
/// Frames on standard output: in place on a terminal, one after the other elsewhere; and the wait between
/// two.
#pragma once

#include <chrono>
#include <csignal>
#include <string_view>

namespace verbena::tools {

/// While it lives, Ctrl-C and SIGTERM only end pause().
class Terminal {
 public:
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// On a terminal, lines below its lower edge are left out.
  void show(std::string_view frame);
  /// False where the program is to end.
  bool pause(std::chrono::milliseconds time);

 private:
  bool is_terminal_;
  bool cleared_ = false;
  sigset_t before_;
};

}  // namespace verbena::tools
