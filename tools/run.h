// SPDX-License-Identifier: Apache-2.0
/// `verbena run`: an unmodified verbs program, with soft0 among its devices.
#pragma once

#include <string>
#include <vector>

namespace verbena::tools {

struct RunArguments {
  std::string fault;                 ///< a plan of docs/fault-plan.md; empty: that of the environment, if any
  std::string trace;                 ///< a file, which may be a trace already; empty: none
  std::vector<std::string> command;  ///< a program, looked for as the shell does, and its arguments
};

/// Becomes the command: on success it doesn't return, and the exit status is the command's. Throws Failure
/// where the program can't be run, with the status that env(1) has for it, UsageError, and Error of a plan
/// that isn't one.
void run_command(const RunArguments& arguments);

}  // namespace verbena::tools
