// SPDX-License-Identifier: Apache-2.0
/// A child by fork alone, which has all that its parent has.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

namespace verbena::test {

/// In a forked child: says on stderr what doesn't hold, and ends the child with status 1.
void require(bool holds, const char* what);

/// Runs `play` in a forked child, which ends with status 0 behind it, or 1 and the exception's text. Nothing
/// of the child's is destroyed at its end.
class Forked {
 public:
  explicit Forked(const std::function<void()>& play);
  /// Kills it if it is still there.
  ~Forked();
  Forked(const Forked&) = delete;
  Forked& operator=(const Forked&) = delete;

  /// True once it has ended; doesn't wait.
  bool has_ended();
  /// Waits for its end; its exit status, or -1 if a signal ended it.
  int join();

 private:
  pid_t pid_;
  int status_ = 0;
  bool ended_ = false;
};

}  // namespace verbena::test
