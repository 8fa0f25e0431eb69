// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/test_kind.h"

#include <fmt/format.h>

#include <verbena/options.h>
#include <array>
#include <string>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

constexpr std::uint64_t longest_eager = Options{}.eager_size;  // what is shorter is copied
constexpr std::uint64_t word = 8, mebi = 1 << 20, gibi = 1 << 30;

// In the order of the enumeration. What spins on a last byte needs one byte; an atomic is one word.
constexpr std::array<TestTraits, 13> tests{{
    {TestKind::floor, "floor", "one cache line each way between two cores", false, 2, word, word, word, 1},
    {TestKind::send_latency, "send-latency", "messages, half a round trip", false, 2, word, 1, gibi, 1},
    {TestKind::write_latency, "write-latency", "one-sided writes, half a round trip", false, 2, word, 1, gibi,
     1},
    {TestKind::read_latency, "read-latency", "one-sided reads, the whole operation", false, 1, word, 1, gibi,
     1},
    {TestKind::atomic_latency, "atomic-latency", "fetch and add, the whole operation", false, 1, word, word,
     word, 1},
    {TestKind::send_bandwidth, "send-bandwidth", "messages, many in flight", true, 2, mebi, 1, gibi, 128},
    {TestKind::write_bandwidth, "write-bandwidth", "one-sided writes, many in flight", true, 2, mebi, 1, gibi,
     128},
    {TestKind::read_bandwidth, "read-bandwidth", "one-sided reads, many in flight", true, 2, mebi, 1, gibi,
     128},
    {TestKind::call_latency, "call-latency", "calls, the whole round trip", false, 1, word, 0, gibi, 1},
    {TestKind::call_rate, "call-rate", "calls, many in flight", true, 1, word, 0, gibi, 32},
    {TestKind::call_bandwidth, "call-bandwidth", "calls whose argument the receiver reads, many in flight",
     true, 1, mebi, 1, gibi, 32},
    {TestKind::lend_latency, "lend-latency", "calls whose argument is lent in place, the whole round trip",
     false, 1, mebi, longest_eager + 1, gibi, 1},
    {TestKind::registration, "register", "registrations of memory, made and kept", false, 1, mebi, 1, gibi,
     1},
}};

}  // namespace

std::span<const TestTraits> all_tests() noexcept {
  return tests;
}

const TestTraits& traits_of(TestKind kind) noexcept {
  return tests[static_cast<std::size_t>(kind)];
}

const TestTraits& test_named(std::string_view name) {
  std::string names;
  for (const TestTraits& test : tests) {
    if (test.name == name) return test;
    names += names.empty() ? "" : ", ";
    names += test.name;
  }
  throw UsageError(fmt::format("there is no test '{}'; choose one of {}.", name, names));
}

}  // namespace verbena::tools
