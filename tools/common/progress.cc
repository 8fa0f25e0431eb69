// SPDX-License-Identifier: Apache-2.0
#include "tools/common/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "tools/common/cycles.h"

namespace verbena::tools {
namespace {

volatile std::sig_atomic_t line_stands = 0;

void write_all(std::string_view text) noexcept {
  // A terminal that takes no bytes must not stop a measurement: what it refuses is dropped.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

std::string bar(double fraction) {
  constexpr int width = 30;
  const int done = static_cast<int>(fraction * width);
  return fmt::format("[{:#<{}}{:.<{}}]", "", done, "", width - done);
}

}  // namespace

Progress::Progress(std::string label)
    : label_(std::move(label)), started_ns_(now_ns()), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  clear_progress_line();
}

void Progress::update(double fraction) {
  if (!terminal_) return;
  constexpr std::uint64_t patience_ns = 1'000'000'000, between_ns = 100'000'000;
  const std::uint64_t now = now_ns();
  if (now - started_ns_ < patience_ns || now - drawn_ns_ < between_ns) return;
  drawn_ns_ = now;
  fraction = std::clamp(fraction, 0.0, 1.0);
  line_stands = 1;
  write_all(fmt::format("\r{} {:3.0f} %  {}\033[K", bar(fraction), fraction * 100, label_));
}

void clear_progress_line() noexcept {
  if (!line_stands) return;
  line_stands = 0;
  write_all("\r\033[K");
}

}  // namespace verbena::tools
