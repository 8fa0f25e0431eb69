// SPDX-License-Identifier: Apache-2.0
// `verbena run`: it becomes the command, or says in one sentence why not. What commands then find on soft0 is
// in tests/programs.
#include <signal.h>

#include "expect.h"

namespace verbena::test {
namespace {

Outcome verbena_run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {verbena_program(), "run"});
  return run(std::move(arguments));
}

constexpr int unusable_program = 126, no_program = 127;

TEST(Run, TheExitStatusIsTheCommands) {
  EXPECT_EQ(verbena_run({"--", "true"}).status, 0);
  EXPECT_EQ(verbena_run({"--", "sh", "-c", "exit 7"}).status, 7);
  EXPECT_EQ(verbena_run({"--", "sh", "-c", "kill -TERM $$"}).signal, SIGTERM);
}

TEST(Run, ArgumentsBehindTheDashesAreTheCommands) {
  EXPECT_EQ(verbena_run({"--", "printf", "%s,", "--fault", "--", "--help", ""}).out, "--fault,--,--help,,");
}

TEST(Run, TheLibraryStandsBehindOthersThatAreToBePreloaded) {
  const Outcome outcome =
      run({"/usr/bin/env", "LD_PRELOAD=libm.so.6", verbena_program(), "run", "--", "printenv", "LD_PRELOAD"});
  EXPECT_THAT(outcome.out, testing::MatchesRegex("libm.so.6:.*/libverbena-ibverbs.so\n"));
}

TEST(Run, APlanIsCheckedBeforeTheCommandRunsAndReachesIt) {
  EXPECT_EQ(verbena_run({"--fault", "seed=7,drop=0.01", "--", "printenv", "VERBENA_FAULT"}).out,
            "seed=7,drop=0.01\n");
  expect_sentence(verbena_run({"--fault", "dorp=0.01", "--", "echo", "ran"}), failure, "verbena", "dorp");
}

TEST(Run, APlanOfTheEnvironmentIsTheDevicesToRefuse) {
  const Outcome outcome = run({"/usr/bin/env", "VERBENA_FAULT=fail-nth=0", verbena_program(), "run", "--",
                               "ibv_devinfo", "-d", "soft0"});
  EXPECT_NE(outcome.status, 0);
  EXPECT_THAT(outcome.err, testing::HasSubstr("fail-nth=0"));
}

TEST(Run, AFaultPlanFailsTheProgramThatItIsFor) {
  // The first set-up call of ibv_rc_pingpong beyond opening is its protection domain or its channel.
  const Outcome outcome = verbena_run({"--fault", "fail-nth=1", "--", "ibv_rc_pingpong", "-d", "soft0"});
  EXPECT_NE(outcome.status, 0);
  EXPECT_THAT(outcome.err, testing::HasSubstr("Couldn't allocate PD"));
}

TEST(Run, WithoutACommandOneIsAskedFor) {
  expect_sentence(verbena_run({}), usage, "verbena", "which program");
  expect_sentence(verbena_run({"--"}), usage, "verbena", "which program");
}

TEST(Run, ACommandInFrontOfTheDashesIsPointedOut) {
  expect_sentence(verbena_run({"ibv_devices"}), usage, "verbena", "verbena run -- ibv_devices");
}

TEST(Run, AProgramThatCantBeRunIsNamed) {
  expect_sentence(verbena_run({"--", "no-such-program"}), no_program, "verbena", "no-such-program");
  expect_sentence(verbena_run({"--", "/"}), unusable_program, "verbena", "/");
}

TEST(Run, AProgramOfVerbenaHasOneSoft0Still) {
  const Outcome outcome = verbena_run({"--", verbena_program(), "info"});
  EXPECT_EQ(outcome.status, 0);
  const std::size_t first = outcome.out.find("soft0 ");
  EXPECT_NE(first, std::string::npos);
  EXPECT_EQ(outcome.out.find("soft0 ", first + 1), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace verbena::test
