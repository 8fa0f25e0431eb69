// SPDX-License-Identifier: Apache-2.0
#include "tools/demo/call_timing.h"

#include <fmt/format.h>
#include <verbena/loop.h>

#include "tools/common/failure.h"
#include "tools/common/progress.h"
#include "tools/demo/methods.h"
#include "tools/demo/waiting.h"

namespace verbena::tools {
namespace {

constexpr std::size_t most_calls = 100'000, warm_up = 200;
constexpr std::uint64_t most_ns = 2'000'000'000;

/// One call; throws where the answer isn't what was asked for.
void call_echo(rpc::Client& client, std::uint64_t number) {
  const std::uint64_t answer = call_and_wait<Echo>(client, number);
  if (answer != number)
    throw Failure(
        fmt::format("the server answered {} where {} was asked; are both of one version?", answer, number));
}

}  // namespace

CallTiming time_calls(rpc::Client& client) {
  Samples samples(most_calls);
  Progress progress("calls of 8 bytes");
  for (std::uint64_t i = 0; i < warm_up; ++i) call_echo(client, i);
  const std::uint64_t start_ns = now_ns();
  while (samples.room() > 0) {
    const Ticks before = now_ticks();
    call_echo(client, before);
    samples.add(now_ticks() - before);
    constexpr std::size_t between_looks = 256;
    if (samples.count() % between_looks != 0) continue;
    const std::uint64_t elapsed_ns = now_ns() - start_ns;
    if (elapsed_ns > most_ns) break;
    progress.update(std::max(static_cast<double>(samples.count()) / most_calls,
                             static_cast<double>(elapsed_ns) / most_ns));
  }
  const std::size_t calls = samples.count();
  return {samples.distribution(), calls};
}

}  // namespace verbena::tools
