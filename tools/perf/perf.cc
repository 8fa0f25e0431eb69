// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/perf.h"

#include <fmt/format.h>

#include "tools/common/units.h"
#include "tools/perf/latency.h"
#include "tools/perf/report.h"
#include "tools/perf/session.h"
#include "tools/perf/stream.h"

namespace verbena::tools {
namespace {

std::unique_ptr<LatencyTest> make_latency_test(TestKind kind, Session& session, std::uint64_t size) {
  switch (kind) {
    case TestKind::send_latency:
      return make_send_latency(session, size);
    case TestKind::write_latency:
      return make_write_latency(session, size);
    case TestKind::read_latency:
      return make_read_latency(session, size);
    case TestKind::atomic_latency:
      return make_atomic_latency(session, size);
    case TestKind::call_latency:
      return make_call_latency(session, size);
    case TestKind::lend_latency:
      return make_lend_latency(session, size);
    default:
      return make_floor_test(session);
  }
}

/// The header comes with the first size: until then no path is known.
class Run {
 public:
  explicit Run(const Plan& plan)
      : plan_(plan), test_(traits_of(plan.test)), session_(plan), report_(plan, session_.device()) {}

  void all_sizes() {
    for (const std::uint64_t size : plan_.sizes) {
      const std::string label = fmt::format("{}, {}", test_.name, show_size(size));
      report_.print(test_.streams ? stream(size, label) : latency(size, label));
    }
    report_.print_footer();
    session_.finish();
  }

 private:
  void header_once(const std::string& path) {
    if (std::exchange(header_stands_, true)) return;
    report_.print_header(path, floor());
  }
  std::optional<double> floor() {
    const auto one_way = session_.floor_one_way_ns();
    return one_way ? std::optional(*one_way * (test_.parts == 2 ? 1 : 2)) : std::nullopt;
  }

  Result latency(std::uint64_t size, const std::string& label) {
    const auto test = make_latency_test(test_.kind, session_, size);
    header_once(test->path());
    const LatencyResult found = measure_latency(plan_, session_, *test, label);
    Result result;
    result.size = size;
    result.iterations = found.iterations;
    result.latency = found.latency;
    result.floor_ns = found.floor_ns;
    result.operations_per_s = found.operations_per_s;
    result.rounds = found.rounds;
    result.discarded = found.discarded;
    result.unsettled = found.unsettled;
    return result;
  }

  Result stream(std::uint64_t size, const std::string& label) {
    const std::uint32_t depth = depth_for(plan_, size);
    const auto test = make_stream_test(plan_, session_, size, depth);
    header_once(test->path());
    const StreamResult found = measure_stream(plan_, session_, *test, size, label);
    Result result;
    result.size = size;
    result.iterations = found.iterations;
    result.latency = found.latency;
    result.floor_ns = floor();
    result.operations_per_s = found.operations_per_s;
    result.depth = depth;
    result.memcpy_bytes_per_s = found.memcpy_bytes_per_s;
    return result;
  }

  const Plan& plan_;
  const TestTraits& test_;
  Session session_;
  Report report_;
  bool header_stands_ = false;
};

}  // namespace

void perf(const Plan& plan) {
  Run(plan).all_sizes();
}

}  // namespace verbena::tools
