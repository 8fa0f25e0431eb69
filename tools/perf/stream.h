// SPDX-License-Identifier: Apache-2.0
/// Bandwidth and rate: many operations in flight.
#pragma once

#include <verbena/operation.h>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tools/common/samples.h"
#include "tools/perf/plan.h"
#include "tools/perf/session.h"

namespace verbena::tools {

class Stream;

/// One of the operations in flight, started again and again.
struct Slot : Operation {
  Stream* stream = nullptr;
};

/// A test at one size, prepared. What starts an operation calls `slot.complete` at its end.
class StreamTest {
 public:
  virtual ~StreamTest() = default;
  virtual std::error_code start(Slot& slot) noexcept = 0;
  /// Returns once the other side has all that was sent.
  virtual void settle() {}
  virtual std::string path() const = 0;
};

std::unique_ptr<StreamTest> make_stream_test(const Plan& plan, Session& session, std::uint64_t size,
                                             std::uint32_t depth);

struct StreamResult {
  Distribution latency;  ///< of a whole operation among the others
  std::size_t iterations = 0;
  double operations_per_s = 0;               ///< the median of the rounds
  std::optional<double> memcpy_bytes_per_s;  ///< this machine's, in between; nothing for calls
};

StreamResult measure_stream(const Plan& plan, Session& session, StreamTest& test, std::uint64_t size,
                            const std::string& label);

}  // namespace verbena::tools
