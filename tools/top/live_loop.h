// SPDX-License-Identifier: Apache-2.0
/// The Loops of this host's live processes, and what they say of themselves.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace verbena::tools {

/// Where a Loop can be asked: an abstract Unix socket.
struct LiveLoop {
  pid_t process = 0;
  std::string socket;  ///< its name, "verbena/loop/PID/NUMBER"
};

/// Those that listen in this network namespace, in the order of process ids; of anyone's processes. Throws
/// Failure where /proc can't be read.
std::vector<LiveLoop> find_live_loops();

/// What a Loop answered, or why it didn't.
struct LoopAnswer {
  enum class Outcome { answered, gone, silent, of_another_user };
  Outcome outcome = Outcome::gone;
  std::string json;  ///< where it answered
  uid_t user = 0;    ///< whose process it is, where it is another user's
};

/// Waits at most two seconds.
LoopAnswer ask(const LiveLoop& loop);

/// The name of a process's program; nothing where there is no such process.
std::optional<std::string> command_of(pid_t process);

}  // namespace verbena::tools
