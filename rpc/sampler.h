// SPDX-License-Identifier: Apache-2.0
/// Which calls have their time taken.
#pragma once

#include <cstdint>

namespace verbena::rpc {

/// One call in `period` on average, by chance: every 64th call exactly would always be of the same method
/// where two take turns. Cost of a call that isn't taken: a decrement and a branch.
class Sampler {
 public:
  /// `period` 1: every call; 0: none.
  explicit Sampler(std::uint32_t period) noexcept : period_(period) { draw(); }

  bool take() noexcept {
    if (--left_ != 0) [[likely]]
      return false;
    return draw();
  }

 private:
  // Evenly from 1 to 2·period - 1, whose mean is the period. False where nothing is ever taken.
  bool draw() noexcept;

  std::uint32_t left_ = 0;
  std::uint32_t period_;
  std::uint64_t state_ = 0x9E37'79B9'7F4A'7C15;
};

}  // namespace verbena::rpc
