// SPDX-License-Identifier: Apache-2.0
#include "tools/top/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

sigset_t ending_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  return signals;
}

std::size_t lines_of_terminal() {
  winsize size{};
  constexpr std::size_t usual = 24;
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : usual;
}

}  // namespace

// The signals stay blocked outside pause(), so that none is lost between two of them.
Terminal::Terminal() : is_terminal_(::isatty(STDOUT_FILENO) == 1) {
  const sigset_t signals = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, &before_);
}

Terminal::~Terminal() {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void Terminal::show(std::string_view frame) {
  std::string text;
  if (!is_terminal_) {
    text = frame;
  } else {
    text = cleared_ ? "\033[H" : "\033[2J\033[H";  // over the frame before: clearing first would flicker
    cleared_ = true;
    for (std::size_t lines = lines_of_terminal(); lines > 1 && !frame.empty(); --lines) {
      const std::size_t end = std::min(frame.find('\n'), frame.size() - 1);
      text += frame.substr(0, end);
      text += "\033[K\n";
      frame.remove_prefix(end + 1);
    }
    text += "\033[J";
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Failure("the output could not be written.");
}

bool Terminal::pause(std::chrono::milliseconds time) {
  const sigset_t signals = ending_signals();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  const timespec limit{seconds.count(), (time - seconds).count() * 1'000'000};
  return ::sigtimedwait(&signals, nullptr, &limit) < 0;
}

}  // namespace verbena::tools
