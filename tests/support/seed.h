// SPDX-License-Identifier: Apache-2.0
/// Chance that can be had again: VERBENA_TEST_SEED sets it, every failure prints it.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <string>

namespace verbena::test {

class Dice {
 public:
  explicit Dice(std::uint64_t seed = chosen_seed())
      : seed_(seed),
        engine_(seed),
        trace_(__FILE__, __LINE__, "to repeat: VERBENA_TEST_SEED=" + std::to_string(seed)) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t word() { return engine_(); }
  /// Of [first, last].
  std::size_t between(std::size_t first, std::size_t last) {
    return std::uniform_int_distribution<std::size_t>{first, last}(engine_);
  }
  bool one_in(std::size_t n) { return between(1, n) == 1; }
  void fill(std::span<std::byte> bytes) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(engine_());
  }

 private:
  static std::uint64_t chosen_seed() {
    const char* text = std::getenv("VERBENA_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  }

  std::uint64_t seed_;
  std::mt19937_64 engine_;
  testing::ScopedTrace trace_;
};

}  // namespace verbena::test
