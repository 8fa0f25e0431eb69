// SPDX-License-Identifier: Apache-2.0
// Whatever ends a measurement, nothing of it stays behind.
#include <signal.h>

#include "expect.h"

namespace verbena::test {
namespace {

/// One that would run for an hour, in the middle of its first rounds.
class Leftovers : public testing::TestWithParam<const char*> {
 protected:
  Leftovers() : program_(command()) {
    header_ = program_.read_line();  // the second process is there, and connected
  }

  static std::vector<std::string> command() {
    std::vector<std::string> words{verbena_program(), "perf", GetParam(), "--seconds=3600"};
    if (std::string(GetParam()) != "floor") words.push_back(device_option());
    return words;
  }

  Program program_;
  std::optional<std::string> header_;
};

TEST_P(Leftovers, CtrlCEndsBothProcesses) {
  ASSERT_TRUE(header_);
  ASSERT_EQ(program_.children().size(), 1U);
  program_.signal_group(SIGINT);
  const Outcome outcome = program_.wait();
  EXPECT_EQ(outcome.signal, SIGINT) << outcome.status << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_FALSE(program_.leaves_something());
}

TEST_P(Leftovers, TerminatingTheFirstEndsTheSecond) {
  ASSERT_TRUE(header_);
  program_.signal(SIGTERM);
  EXPECT_EQ(program_.wait().signal, SIGTERM);
  EXPECT_FALSE(program_.leaves_something());
}

TEST_P(Leftovers, KillingTheFirstEndsTheSecond) {
  ASSERT_TRUE(header_);
  program_.signal(SIGKILL);
  EXPECT_EQ(program_.wait().signal, SIGKILL);
  EXPECT_FALSE(program_.leaves_something());
}

TEST_P(Leftovers, KillingTheSecondIsAFailureWithASentence) {
  ASSERT_TRUE(header_);
  const std::vector<pid_t> children = program_.children();
  ASSERT_EQ(children.size(), 1U);
  ::kill(children[0], SIGKILL);
  expect_sentence(program_.wait(), failure, "verbena", "second process");
  EXPECT_FALSE(program_.leaves_something());
}

std::string name_of(const testing::TestParamInfo<const char*>& test) {
  std::string name = test.param;
  for (char& letter : name)
    if (letter == '-') letter = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Perf, Leftovers,
                         testing::Values("floor", "send-latency", "write-latency", "write-bandwidth",
                                         "call-rate"),
                         name_of);

}  // namespace
}  // namespace verbena::test
