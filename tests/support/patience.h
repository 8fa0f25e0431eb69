// SPDX-License-Identifier: Apache-2.0
/// Waiting with an end: a test that hangs says what it waited for, instead of running into the runner's
/// limit.
#pragma once

#include <sched.h>

#include <chrono>
#include <stdexcept>
#include <string>

namespace verbena::test {

/// Far beyond what any device needs, an emulated one on a busy machine included.
inline constexpr std::chrono::seconds patience{10};

struct Impatience : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Calls `condition` until it holds; throws Impatience naming `what` after `limit`.
template <class Condition>
void wait_until(const std::string& what, Condition condition, std::chrono::milliseconds limit = patience) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      throw Impatience("waited " + std::to_string(limit.count()) + " ms in vain for " + what);
    }
    sched_yield();
  }
}

/// True if `condition` holds for `span` long, looked at again and again: for what must not happen.
template <class Condition>
bool stays(Condition condition, std::chrono::milliseconds span) {
  const auto end = std::chrono::steady_clock::now() + span;
  do {
    if (!condition()) return false;
    sched_yield();
  } while (std::chrono::steady_clock::now() < end);
  return true;
}

}  // namespace verbena::test
