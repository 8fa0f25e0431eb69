// SPDX-License-Identifier: Apache-2.0
#include "tools/common/second_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "tools/common/cycles.h"
#include "tools/common/failure.h"
#include "tools/common/progress.h"

namespace verbena::tools {
namespace {

// What the signal handlers know. Lock-free atomics are safe there.
std::atomic<pid_t> second{0};  // 0: none, or reaped already
std::atomic<bool> end_expected{false};
std::atomic<bool> has_failed{false};  // it exited with a status of its own, after its own sentence
static_assert(std::atomic<pid_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constexpr std::array stop_signals{SIGINT, SIGTERM, SIGHUP};

/// Safe in a signal handler.
void kill_and_reap() noexcept {
  const pid_t pid = second.exchange(0);
  if (pid == 0) return;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void stop(int signal) {
  kill_and_reap();
  clear_progress_line();
  // The handler was reset on entry (SA_RESETHAND): this process now dies of the signal, as its caller
  // expects.
  ::raise(signal);
}

void say_killed_and_exit() noexcept {
  static constexpr std::string_view sentence =
      ": the second process was killed while the measurement ran, so there is no result; run it again.\n";
  clear_progress_line();
  [[maybe_unused]] auto written =
      ::write(STDERR_FILENO, program_invocation_short_name, std::strlen(program_invocation_short_name));
  written = ::write(STDERR_FILENO, sentence.data(), sentence.size());
  ::_exit(static_cast<int>(Status::failure));
}

void second_process_changed(int) {
  const int errno_before = errno;
  const pid_t pid = second.load();
  int status = 0;
  if (pid != 0 && ::waitpid(pid, &status, WNOHANG) == pid) {
    second = 0;
    // One that has ended well ended because this side left; should it have been too early, the connection
    // says so.
    if (!end_expected && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
      if (WIFSIGNALED(status)) say_killed_and_exit();
      has_failed = true;
      clear_progress_line();
      ::_exit(WEXITSTATUS(status));
    }
  }
  errno = errno_before;
}

void install_handlers() {
  struct sigaction action {};
  action.sa_handler = second_process_changed;
  action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
  ::sigaction(SIGCHLD, &action, nullptr);
  action.sa_handler = stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : stop_signals) ::sigaction(signal, &action, nullptr);
}

[[noreturn]] void become(const std::vector<char*>& arguments, const std::vector<int>& kept, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);  // it died before the line above
  for (const int fd : kept) ::fcntl(fd, F_SETFD, 0);
  ::execv("/proc/self/exe", arguments.data());
  ::_exit(static_cast<int>(Status::failure));
}

pid_t start(std::vector<std::string>& arguments, const std::vector<int>& kept) {
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0)
    throw Failure(fmt::format("the second process could not be started: {}.", std::strerror(errno)));
  if (pid == 0) become(pointers, kept, parent);
  return pid;
}

}  // namespace

SecondProcess::SecondProcess(std::vector<std::string> arguments, const std::vector<int>& inherited)
    : channel_(-1) {
  assert(second == 0 && "one second process at a time");
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw Failure(fmt::format("no channel to a second process: {}.", std::strerror(errno)));
  channel_ = Channel(ends[0]);
  const Channel theirs(ends[1]);
  arguments.insert(arguments.begin(), program_invocation_short_name);
  arguments.push_back(fmt::format("--channel={}", ends[1]));
  std::vector<int> kept = inherited;
  kept.push_back(ends[1]);

  end_expected = false;
  install_handlers();
  // Its end must not be handled before its id is known.
  sigset_t children, before;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  ::pthread_sigmask(SIG_BLOCK, &children, &before);
  try {
    second = start(arguments, kept);
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

SecondProcess::~SecondProcess() {
  if (std::uncaught_exceptions() > 0) failed_first();  // which may have been the cause
  end_expected = true;
  kill_and_reap();
}

void SecondProcess::expect_end() noexcept {
  end_expected = true;
}

void SecondProcess::finish() noexcept {
  expect_end();
  constexpr std::uint64_t patience_ns = 3'000'000'000;
  for (const std::uint64_t start_ns = now_ns(); second != 0 && now_ns() - start_ns < patience_ns;)
    ::poll(nullptr, 0, 1);  // the handler of SIGCHLD, which interrupts this, reaps it
  kill_and_reap();
}

bool SecondProcess::failed_first() noexcept {
  // Its end follows its sentence at once, but not in the same moment. Normally the handler ends this process.
  if (second == 0 || end_expected) return has_failed;
  constexpr int patience_ms = 300;
  for (int waited = 0; second != 0 && waited < patience_ms; ++waited) ::poll(nullptr, 0, 1);
  return has_failed;
}

void Channel::throw_gone() {
  // It has closed its end, so it is about to end, though a device may be slow to let go of its memory.
  constexpr int patience_ms = 3000;
  for (int waited = 0; second != 0 && waited < patience_ms; ++waited) ::poll(nullptr, 0, 1);
  throw Failure("the other process of this measurement is gone; run it again.");
}

void behave_as_second_process() noexcept {
  ::signal(SIGINT, SIG_IGN);
  ::prctl(PR_SET_NAME, program_invocation_short_name);  // else it is called "exe" in lists of processes
}

Channel::Channel(Channel&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Channel& Channel::operator=(Channel&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Channel::~Channel() {
  if (fd_ >= 0) ::close(fd_);
}

void Channel::send_line(std::string_view line) {
  const std::string bytes = std::string(line) + "\n";
  if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size()))
    throw_gone();
}

std::string Channel::receive_line() {
  std::string line;
  for (char byte = 0;;) {
    const ssize_t count = ::recv(fd_, &byte, 1, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count != 1) throw_gone();
    if (byte == '\n') return line;
    line += byte;
  }
}

}  // namespace verbena::tools
