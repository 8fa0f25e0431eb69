// SPDX-License-Identifier: Apache-2.0
// The text for Prometheus, read back by its rules.
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "verbena/snapshot.h"

namespace verbena::test {
namespace {

/// Samples by name and labels. Every line is looked at.
std::map<std::string, double> parse(const std::string& text) {
  static const std::regex comment(R"(# (HELP|TYPE) (verbena_[a-z_]+) (.+))");
  static const std::regex sample(
      R"re((verbena_[a-z_]+)\{([a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*)\} (\S+))re");
  std::map<std::string, double> samples;
  std::set<std::string> families;
  std::string family;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch parts;
    if (std::regex_match(line, parts, comment)) {
      family = parts[2];
      EXPECT_EQ(families.insert(parts[1].str() + family).second, true) << line << " stands there twice";
      if (parts[1] == "TYPE") {
        EXPECT_TRUE(parts[3] == "counter" || parts[3] == "gauge" || parts[3] == "histogram") << line;
        EXPECT_EQ(parts[3] == "counter", family.ends_with("_total")) << line;
      }
    } else if (std::regex_match(line, parts, sample)) {
      EXPECT_TRUE(families.contains("TYPE" + family)) << line;
      EXPECT_EQ(parts[1].str().find(family), 0U) << line << " is in the family " << family;
      EXPECT_TRUE(samples.emplace(parts[1].str() + "{" + parts[2].str() + "}", std::stod(parts[3])).second)
          << line << " is there twice";
    } else {
      ADD_FAILURE() << "not a line of the format: " << line;
    }
  }
  EXPECT_TRUE(text.ends_with('\n'));
  return samples;
}

Snapshot some_snapshot() {
  Snapshot snapshot;
  snapshot.process = 42;
  snapshot.device = "soft0";
  snapshot.connections = 3;
  snapshot.counters.messages_sent = 17;
  rpc::MethodStatistics& sum = snapshot.methods.emplace_back();
  sum.role = rpc::Role::server;
  sum.method = 5;
  sum.name = "sum";
  sum.calls = 12;
  sum.completed = 9;
  sum.errors[static_cast<std::size_t>(rpc::Failed::overloaded)] = 3;
  for (const std::uint64_t ns : {100, 255, 256, 511, 1000, 2'000'000'000}) sum.latency.record(ns);
  sum.latency.record(std::uint64_t{1} << 36);  // beyond the last bucket that is shown
  return snapshot;
}

constexpr const char* of_method = R"({loop="0",device="soft0",role="server",method="sum")";

TEST(PrometheusTest, LoopsAndMethodsAreThere) {
  auto samples = parse(prometheus(some_snapshot()));
  EXPECT_EQ(samples[R"(verbena_connections{loop="0",device="soft0"})"], 3);
  EXPECT_EQ(samples[R"(verbena_messages_sent_total{loop="0",device="soft0"})"], 17);
  const std::string method = of_method;
  EXPECT_EQ(samples["verbena_calls_total" + method + "}"], 12);
  EXPECT_EQ(samples["verbena_calls_completed_total" + method + "}"], 9);
  EXPECT_EQ(samples["verbena_call_errors_total" + method + R"(,error="overloaded"})"], 3);
  EXPECT_EQ(samples["verbena_call_errors_total" + method + R"(,error="timed_out"})"], 0);
}

TEST(PrometheusTest, BucketsAreCumulativeAndEndWithAll) {
  auto samples = parse(prometheus(some_snapshot()));
  const auto bucket = [&](const char* le) {
    const auto found =
        samples.find(std::string("verbena_call_latency_seconds_bucket") + of_method + ",le=\"" + le + "\"}");
    EXPECT_NE(found, samples.end()) << le;
    return found == samples.end() ? -1 : found->second;
  };
  EXPECT_EQ(bucket("2.56e-07"), 2);
  EXPECT_EQ(bucket("5.12e-07"), 4);
  EXPECT_EQ(bucket("1.024e-06"), 5);
  EXPECT_EQ(bucket("1.073741824"), 5);
  EXPECT_EQ(bucket("2.147483648"), 6);
  EXPECT_EQ(bucket("8.589934592"), 6);
  EXPECT_EQ(bucket("+Inf"), 7);
  EXPECT_EQ(samples[std::string("verbena_call_latency_seconds_count") + of_method + "}"], 7);
  EXPECT_NEAR(samples[std::string("verbena_call_latency_seconds_sum") + of_method + "}"], 70.72, 0.01);
}

TEST(PrometheusTest, SeveralLoopsShareEachMetricsHead) {
  std::vector<Snapshot> snapshots(2, some_snapshot());
  snapshots[1].loop = 1;
  auto samples = parse(prometheus(snapshots));
  EXPECT_EQ(samples[R"(verbena_connections{loop="1",device="soft0"})"], 3);
  EXPECT_EQ(samples.count(R"(verbena_connections{loop="0",device="soft0"})"), 1U);
}

TEST(PrometheusTest, SeveralProcessesAreToldApart) {
  std::vector<Snapshot> snapshots(2, some_snapshot());
  snapshots[1].process = 43;
  auto samples = parse(prometheus(snapshots));
  EXPECT_EQ(samples[R"(verbena_connections{loop="0",device="soft0",pid="42"})"], 3);
  EXPECT_EQ(samples[R"(verbena_connections{loop="0",device="soft0",pid="43"})"], 3);
}

TEST(PrometheusTest, StrangeNamesAreQuoted) {
  Snapshot snapshot = some_snapshot();
  snapshot.methods[0].name = "a\"b\\c\nd";
  parse(prometheus(snapshot));
}

TEST(PrometheusTest, NothingIsAValidText) {
  EXPECT_TRUE(parse(prometheus(Snapshot{})).size() > 10);
  EXPECT_TRUE(parse(prometheus(std::span<const Snapshot>{})).empty());
}

}  // namespace
}  // namespace verbena::test
