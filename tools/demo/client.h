// SPDX-License-Identifier: Apache-2.0
/// The asking side of the demonstration: times calls, reads the server's file out of its memory, checks it.
#pragma once

#include <optional>
#include <string>

#include "tools/common/cores.h"

namespace verbena::tools {

struct ClientPlan {
  std::string address;
  std::string device;
  std::optional<CorePair> cores;  ///< where both processes run here and are pinned
};

/// Prints what it finds. Throws Failure where what it read isn't the file.
void ask(const ClientPlan& plan);

}  // namespace verbena::tools
