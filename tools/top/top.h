// SPDX-License-Identifier: Apache-2.0
/// `verbena top`: what live processes count, method by method.
#pragma once

#include <sys/types.h>

#include <string>

namespace CLI {
class App;
}

namespace verbena::tools {

struct TopArguments {
  pid_t process = 0;  ///< 0: all
  bool once = false;
  bool json = false;
  bool prometheus = false;
  std::string interval = "1s";
};

void add_top_options(CLI::App& command, TopArguments& arguments);

/// Until Ctrl-C, or the end of the process that was asked for. Throws Failure, UsageError.
void run_top(const TopArguments& arguments);

}  // namespace verbena::tools
