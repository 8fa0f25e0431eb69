// SPDX-License-Identifier: Apache-2.0
/// The tests that `verbena perf` knows.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace verbena::tools {

enum class TestKind : std::uint32_t {
  floor,
  send_latency,
  write_latency,
  read_latency,
  atomic_latency,
  send_bandwidth,
  write_bandwidth,
  read_bandwidth,
  call_latency,
  call_rate,
  call_bandwidth,
  lend_latency,
  registration,
};

constexpr bool makes_calls(TestKind kind) noexcept {
  return kind == TestKind::call_latency || kind == TestKind::call_rate || kind == TestKind::call_bandwidth ||
         kind == TestKind::lend_latency;
}

/// What is counted of a test, and with which defaults.
struct TestTraits {
  TestKind kind;
  std::string_view name;
  std::string_view summary;
  bool streams;             ///< many operations in flight: a rate instead of latencies
  unsigned parts;           ///< 2: half a round trip is reported, as perftest does; 1: the whole operation
  std::uint64_t size;       ///< the default
  std::uint64_t least;      ///< size
  std::uint64_t most;       ///< size
  std::uint32_t most_deep;  ///< in flight by default, for small sizes
};

std::span<const TestTraits> all_tests() noexcept;
const TestTraits& traits_of(TestKind kind) noexcept;
/// Throws UsageError naming the tests.
const TestTraits& test_named(std::string_view name);

}  // namespace verbena::tools
