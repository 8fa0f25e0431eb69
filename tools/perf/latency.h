// SPDX-License-Identifier: Apache-2.0
/// Latency, measured beside the floor of the same moment: floor, test, floor, test, …
///
/// The host may move the two cores of a virtual machine between near and far at any time. A round of the test
/// between two floors that differ was measured across such a move, and is discarded.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "tools/common/samples.h"
#include "tools/perf/plan.h"
#include "tools/perf/session.h"

namespace verbena::tools {

/// A test at one size, prepared.
class LatencyTest {
 public:
  virtual ~LatencyTest() = default;
  /// `count` operations one after the other, after those of `warm_up`, which the responding side is told of.
  /// Adds a sample for each.
  virtual void round(std::size_t count, Samples& samples) = 0;
  /// What the connection says of the way that these operations take.
  virtual std::string path() const = 0;

  /// Operations at a round's start that aren't counted: the other side still turns to the test.
  static constexpr std::size_t warm_up = 8;
};

std::unique_ptr<LatencyTest> make_send_latency(Session& session, std::uint64_t size);
std::unique_ptr<LatencyTest> make_write_latency(Session& session, std::uint64_t size);
std::unique_ptr<LatencyTest> make_read_latency(Session& session, std::uint64_t size);
std::unique_ptr<LatencyTest> make_atomic_latency(Session& session, std::uint64_t size);
std::unique_ptr<LatencyTest> make_call_latency(Session& session, std::uint64_t size);
std::unique_ptr<LatencyTest> make_lend_latency(Session& session, std::uint64_t size);
std::unique_ptr<LatencyTest> make_floor_test(Session& session);

struct LatencyResult {
  Distribution latency;            ///< as the test reports it: halves or wholes
  std::optional<double> floor_ns;  ///< likewise; the median over the kept rounds
  std::size_t iterations = 0;      ///< kept
  double operations_per_s = 0;
  std::size_t rounds = 0;  ///< in all
  std::size_t discarded = 0;
  bool unsettled = false;  ///< no round could be kept, so the result is that of the last
};

/// Runs rounds until the plan's iterations or seconds are reached.
LatencyResult measure_latency(const Plan& plan, Session& session, LatencyTest& test,
                              const std::string& label);

}  // namespace verbena::tools
