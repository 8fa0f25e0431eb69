// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace verbena::test {

/// From now on this process's system call `number` is answered EPERM, as containers' seccomp filters do it.
/// For a Forked child: it can't be undone.
void refuse_system_call(long number);

/// What goes to stderr from now on; for a Forked child.
class CaughtStderr {
 public:
  CaughtStderr();
  /// So far. Later words are said on the real stderr.
  std::string text();

 private:
  int file_;
  int real_;
};

}  // namespace verbena::test
