// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/report.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/common/units.h"

namespace verbena::tools {
namespace {

Table columns_of(const TestTraits& test) {
  constexpr std::size_t figure = 10;
  if (!test.streams)
    return Table({{"size", 9},
                  {"min", figure},
                  {"p50", figure},
                  {"p99", figure},
                  {"p99.9", figure},
                  {"max", figure},
                  {"floor", figure},
                  {"p50/floor", 0},
                  {"rate", figure},
                  {"iterations", 0}});
  if (makes_calls(test.kind))
    return Table({{"size", 9},
                  {"depth", 0},
                  {"rate", figure},
                  {"bandwidth", figure},
                  {"p50", figure},
                  {"p99", figure},
                  {"iterations", 11}});
  return Table({{"size", 9},
                {"depth", 0},
                {"bandwidth", figure},
                {"memcpy", figure},
                {"of memcpy", 0},
                {"rate", figure},
                {"p50", figure},
                {"p99", figure},
                {"iterations", 11}});
}

nlohmann::ordered_json or_null(std::optional<double> value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

double bandwidth_of(const Result& result) {
  return result.operations_per_s * static_cast<double>(result.size);
}

}  // namespace

Report::Report(const Plan& plan, const std::string& device)
    : plan_(plan), test_(traits_of(plan.test)), device_(device), table_(columns_of(test_)) {}

void Report::print_header(const std::string& path, std::optional<double> floor_ns) {
  if (plan_.json) return;
  fmt::print("verbena perf {}: {}\n", test_.name, test_.summary);
  if (!device_.empty()) fmt::print("{}", fact("device", device_));
  fmt::print("{}", fact("path", path));
  if (!plan_.connect.empty()) fmt::print("{}", fact("peer", plan_.connect));
  if (plan_.cores)
    fmt::print("{}", fact("cores", fmt::format("{} and {}", plan_.cores->first, plan_.cores->second)));
  else if (plan_.connect.empty())
    fmt::print("{}", fact("cores", "one for both sides: the figures are those of the scheduler"));
  if (floor_ns)
    fmt::print("{}",
               fact("floor", fmt::format("{} {}: a cache line between these two cores", show_time(*floor_ns),
                                         test_.parts == 2 ? "one way" : "there and back")));
  fmt::print("\n{}", table_.header());
  std::fflush(stdout);
}

void Report::print(const Result& result) {
  rounds_ += result.rounds;
  discarded_ += result.discarded;
  unsettled_ = unsettled_ || result.unsettled;
  if (plan_.json)
    print_json(result);
  else
    print_row(result);
  std::fflush(stdout);
}

void Report::print_json(const Result& result) const {
  const Distribution& latency = result.latency;
  const nlohmann::ordered_json line{{"test", test_.name},
                                    {"device", device_},
                                    {"size", result.size},
                                    {"iterations", result.iterations},
                                    {"latency_ns",
                                     {{"min", latency.min},
                                      {"p50", latency.p50},
                                      {"p99", latency.p99},
                                      {"p999", latency.p999},
                                      {"max", latency.max}}},
                                    {"floor_ns", or_null(result.floor_ns)},
                                    {"rate_per_s", result.operations_per_s},
                                    {"bandwidth_bytes_per_s", bandwidth_of(result)},
                                    {"memcpy_bytes_per_s", or_null(result.memcpy_bytes_per_s)},
                                    {"depth", result.depth},
                                    {"rounds", result.rounds},
                                    {"rounds_discarded", result.discarded},
                                    {"unsettled", result.unsettled}};
  fmt::print("{}\n", line.dump());
}

void Report::print_row(const Result& result) {
  const Distribution& latency = result.latency;
  const std::string size = show_size(result.size), rate = show_rate(result.operations_per_s),
                    count = show_count(result.iterations), p50 = show_time(latency.p50),
                    p99 = show_time(latency.p99);
  const double bandwidth = bandwidth_of(result);
  if (!test_.streams) {
    const std::string floor = result.floor_ns ? show_time(*result.floor_ns) : "-";
    const std::string ratio = result.floor_ns ? fmt::format("{:.2f}", latency.p50 / *result.floor_ns) : "-";
    fmt::print("{}", table_.row({size, show_time(latency.min), p50, p99, show_time(latency.p999),
                                 show_time(latency.max), floor, ratio, rate, count}));
  } else if (!result.memcpy_bytes_per_s) {
    fmt::print("{}", table_.row({size, std::to_string(result.depth), rate, show_bandwidth(bandwidth), p50,
                                 p99, count}));
  } else {
    fmt::print("{}", table_.row({size, std::to_string(result.depth), show_bandwidth(bandwidth),
                                 show_bandwidth(*result.memcpy_bytes_per_s),
                                 fmt::format("{:.2f}", bandwidth / *result.memcpy_bytes_per_s), rate, p50,
                                 p99, count}));
  }
}

void Report::print_footer() {
  if (plan_.json || test_.streams) return;
  if (unsettled_)
    fmt::print(
        "\nThe floor moved during every round of a size: those figures span two placements of the cores; "
        "run it again.\n");
  else if (plan_.connect.empty())
    fmt::print("\n{} of {} rounds discarded, because the floor moved by more than 15 % meanwhile.\n",
               discarded_, rounds_);
}

}  // namespace verbena::tools
