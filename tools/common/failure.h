// SPDX-License-Identifier: Apache-2.0
/// How a command fails: one sentence on stderr, with the value that was wrong and the remedy, and an exit
/// status.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace verbena::tools {

/// Exit statuses, the same for every command. The last two are of one that runs another program, and
/// env(1)'s.
enum class Status { success = 0, failure = 1, usage = 2, unusable_program = 126, no_program = 127 };

/// Thrown where the sentence is known. `what()` is the sentence, without the program's name.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& sentence, Status status = Status::failure)
      : std::runtime_error(sentence), status_(status) {}
  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

/// The caller's arguments were wrong.
class UsageError : public Failure {
 public:
  explicit UsageError(const std::string& sentence) : Failure(sentence, Status::usage) {}
};

/// Runs a whole program: whatever is thrown becomes "PROGRAM: sentence" on stderr and an exit status.
int run_program(const char* program, const std::function<void()>& body) noexcept;

}  // namespace verbena::tools
