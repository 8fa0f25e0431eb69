// SPDX-License-Identifier: Apache-2.0
// What the command line says to right and to wrong arguments.
#include "expect.h"

namespace verbena::test {
namespace {

Outcome verbena(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), verbena_program());
  return run(std::move(arguments));
}

TEST(Arguments, VersionAndHelpAreNoFailures) {
  EXPECT_THAT(verbena({"--version"}).out, testing::StartsWith("verbena "));
  for (const std::vector<std::string>& asked :
       {std::vector<std::string>{"--help"}, {"info", "--help"}, {"perf", "--help"}}) {
    const Outcome outcome = verbena(asked);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.out, testing::HasSubstr("--help"));
    EXPECT_EQ(outcome.err, "");
  }
}

TEST(Arguments, WithoutACommandTheUsageIsNamed) {
  expect_sentence(verbena({}), usage, "verbena", "--help");
}

TEST(Arguments, AnUnknownTestNamesThoseThatThereAre) {
  const Outcome outcome = verbena({"perf", "send-latenzy"});
  expect_sentence(outcome, usage, "verbena", "send-latenzy");
  for (const char* name :
       {"floor", "send-latency", "write-latency", "read-latency", "atomic-latency", "send-bandwidth",
        "write-bandwidth", "read-bandwidth", "call-latency", "call-rate"})
    EXPECT_THAT(outcome.err, testing::HasSubstr(name));
}

TEST(Arguments, AMissingTestIsAskedFor) {
  expect_sentence(verbena({"perf"}), usage, "verbena", "which test");
}

TEST(Arguments, AnUnknownOptionIsNamed) {
  expect_sentence(verbena({"perf", "floor", "--sise=8"}), usage, "verbena", "--sise");
}

TEST(Arguments, NumbersOutOfRangeAreNamed) {
  expect_sentence(verbena({"perf", "send-latency", "--iterations=0"}), usage, "verbena", "iterations");
  expect_sentence(verbena({"perf", "send-latency", "--seconds=-1"}), usage, "verbena", "seconds");
  expect_sentence(verbena({"perf", "call-rate", "--depth=0"}), usage, "verbena", "depth");
  expect_sentence(verbena({"perf", "call-rate", "--depth=many"}), usage, "verbena", "many");
}

TEST(Arguments, SizesOutOfRangeAreNamed) {
  expect_sentence(verbena({"perf", "send-latency", "--size=12x"}), usage, "verbena", "12x");
  expect_sentence(verbena({"perf", "send-latency", "--size=1T"}), usage, "verbena", "size");
  expect_sentence(verbena({"perf", "write-latency", "--size=0"}), usage, "verbena", "size");
  expect_sentence(verbena({"perf", "atomic-latency", "--size=16"}), usage, "verbena", "16");
}

TEST(Arguments, CoresThatCannotBeUsedAreNamed) {
  expect_sentence(verbena({"perf", "floor", "--cores=0,9999"}), usage, "verbena", "9999");
  expect_sentence(verbena({"perf", "floor", "--cores=0"}), usage, "verbena", "two cores");
  expect_sentence(verbena({"perf", "floor", "--cores=0,0"}), usage, "verbena", "two different cores");
}

TEST(Arguments, AnUnknownDeviceNamesThoseThatThereAre) {
  const Outcome outcome = verbena({"perf", "send-latency", "--device=mlx9_9"});
  expect_sentence(outcome, failure, "verbena", "mlx9_9");
  EXPECT_THAT(outcome.err, testing::HasSubstr("soft0"));
}

TEST(Arguments, AnAddressThatIsNoneIsNamed) {
  expect_sentence(verbena({"perf", "send-latency", "--connect=nowhere"}), usage, "verbena", "nowhere");
  expect_sentence(verbena({"perf", "--listen=soft://127.0.0.1:99999"}), usage, "verbena", "99999");
}

TEST(Arguments, BothSidesAtOnceIsRefused) {
  expect_sentence(
      verbena({"perf", "send-latency", "--listen=soft://127.0.0.1:0", "--connect=soft://127.0.0.1:1"}), usage,
      "verbena", "--listen");
}

}  // namespace
}  // namespace verbena::test
