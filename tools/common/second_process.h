// SPDX-License-Identifier: Apache-2.0
/// The other side of a measurement on one machine: this program, started again with other arguments.
///
/// Nothing is ever left behind. The second process is ended when this object dies, when this process is told
/// to stop (Ctrl-C, SIGTERM, SIGHUP: it is killed and reaped first), and by the kernel when this process dies
/// in any other way. Where the second process ends too early, this one stops at once, wherever it is: it may
/// be spinning on memory that nobody will write again.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace verbena::tools {

/// One end of the line-wise channel between the two processes, used while they find each other.
class Channel {
 public:
  explicit Channel(int fd) : fd_(fd) {}
  Channel(Channel&& other) noexcept;
  Channel& operator=(Channel&& other) noexcept;
  ~Channel();

  void send_line(std::string_view line);
  /// Waits. Throws Failure where the other process is gone.
  std::string receive_line();

 private:
  [[noreturn]] static void throw_gone();

  int fd_;
};

/// At most one exists in a process at a time: signal handlers know it.
class SecondProcess {
 public:
  /// `arguments` follow the program's name; "--channel=N" is added to them. `inherited` descriptors stay
  /// open.
  SecondProcess(std::vector<std::string> arguments, const std::vector<int>& inherited);
  SecondProcess(const SecondProcess&) = delete;
  SecondProcess& operator=(const SecondProcess&) = delete;
  ~SecondProcess();

  Channel& channel() { return channel_; }
  /// From here on its end is no failure: before it is told to end.
  void expect_end() noexcept;
  /// Waits for its end, at most a few seconds, then kills it.
  void finish() noexcept;

  /// Whether a second process has failed and said why: it may be the cause of what this process sees.
  static bool failed_first() noexcept;

 private:
  Channel channel_;
};

/// What the second process calls first: Ctrl-C is the first one's business, which ends this one.
void behave_as_second_process() noexcept;

}  // namespace verbena::tools
