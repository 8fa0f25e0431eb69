// SPDX-License-Identifier: Apache-2.0
/// Running a built program as a user does, and looking at all that it leaves.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace verbena::test {

/// What a program that has ended leaves.
struct Outcome {
  int status = -1;  ///< exit status; -1: a signal ended it
  int signal = 0;   ///< that signal
  std::string out;
  std::string err;
};

/// A program in a process group of its own, so that what it starts can be found again. Whatever is left of
/// the group is killed at the end.
class Program {
 public:
  /// `path` and its arguments; standard input is empty.
  explicit Program(std::vector<std::string> command);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  /// To every process of the group, as a terminal's Ctrl-C.
  void signal_group(int number);
  /// To the first process only.
  void signal(int number);
  /// Until it has ended; a program that doesn't within a minute is killed and reported as such.
  Outcome wait();
  /// The next whole line of its output, without the end; nothing where it ended, or a minute has passed,
  /// before.
  std::optional<std::string> read_line();

  /// The processes that the first one has started and that live.
  std::vector<pid_t> children() const;
  /// Whether any process of the group lives, after a moment's patience for those that are just being killed.
  bool leaves_something();

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  std::string out_text_;
  bool reaped_ = false;
};

Outcome run(std::vector<std::string> command);

/// The built programs, and the device to test on.
std::string verbena_program();
std::string demo_program();
std::string test_device();
/// "--device=…" for it.
std::string device_option();
/// The first address (scheme://host:port) in a line; empty where there is none.
std::string address_in(const std::string& line);
/// Reads the program's output up to a line that names an address; empty where there is none.
std::string await_address(Program& program);
/// A free port at that device's address: "soft://127.0.0.1:0".
std::string listen_address();

}  // namespace verbena::test
