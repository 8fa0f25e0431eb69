// SPDX-License-Identifier: Apache-2.0
// The text of a fault plan, and what it says of a queue pair's operations: no device is needed for either.
#include "core/soft/fault_plan.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/soft/faults.h"
#include "verbena/error.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using core::soft::FaultPlan;
using core::soft::Faults;
using enum core::soft::Faults::Fate;

std::string complaint_of(const std::string& text) {
  try {
    FaultPlan::parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), make_error_code(errc::invalid_argument));
    return error.what();
  }
  return {};
}

TEST(FaultPlanTest, EveryWordIsUnderstood) {
  const FaultPlan plan = FaultPlan::parse(
      "seed=7,drop=0.01,rnr=0.05,late=2ms,late-chance=0.5,delay-completion=1.5us,fail-nth=3,"
      "kill-link-after=10000");
  EXPECT_EQ(plan.seed, 7U);
  EXPECT_EQ(plan.drop, 0.01);
  EXPECT_EQ(plan.not_ready, 0.05);
  EXPECT_EQ(plan.late, 2ms);
  EXPECT_EQ(plan.late_chance, 0.5);
  EXPECT_EQ(plan.completion_delay, 1500ns);
  EXPECT_EQ(plan.failing_call, 3U);
  EXPECT_EQ(plan.link_life, 10'000U);
}

TEST(FaultPlanTest, ATextOfNoWordsHasNoFaults) {
  EXPECT_FALSE(FaultPlan::parse("").touches_operations());
  EXPECT_FALSE(FaultPlan::parse("seed=1,drop=0,late=0ms").touches_operations());
}

struct Wrong {
  std::string text;
  std::string word;
  std::string allowed;
};

class WrongPlanTest : public testing::TestWithParam<Wrong> {};

TEST_P(WrongPlanTest, IsRefusedWithTheWordAndWhatIsAllowed) {
  const std::string complaint = complaint_of(GetParam().text);
  EXPECT_NE(complaint.find("\"" + GetParam().word + "\""), complaint.npos) << complaint;
  EXPECT_NE(complaint.find(GetParam().allowed), complaint.npos) << complaint;
}

INSTANTIATE_TEST_SUITE_P(
    Plans, WrongPlanTest,
    testing::Values(
        Wrong{"seed=7,dorp=0.1", "dorp=0.1", "known are seed=N, drop=P"}, Wrong{"drop", "drop", "known are"},
        Wrong{"drop=0.1,,rnr=1", "", "known are"}, Wrong{"drop=1.1", "drop=1.1", "from 0 to 1"},
        Wrong{"rnr=-0.1", "rnr=-0.1", "from 0 to 1"}, Wrong{"drop=nan", "drop=nan", "from 0 to 1"},
        Wrong{"drop=0.1x", "drop=0.1x", "from 0 to 1"}, Wrong{"late=2", "late=2", "ns, us, ms or s"},
        Wrong{"late=ms", "late=ms", "ns, us, ms or s"}, Wrong{"late=11s", "late=11s", "up to 10s"},
        Wrong{"late=-1ms", "late=-1ms", "a time"}, Wrong{"late=1e300s", "late=1e300s", "up to 10s"},
        Wrong{"fail-nth=0", "fail-nth=0", "at least 1"}, Wrong{"seed=-1", "seed=-1", "whole number"},
        Wrong{"kill-link-after=1.5", "kill-link-after=1.5", "whole number"}));

TEST(FaultPlanTest, AWrongVariableIsRefusedWhenTheDeviceIsOpened) {
  ASSERT_EQ(setenv("VERBENA_FAULT", "drop=2", 1), 0);
  std::string complaint;
  try {
    core::open_device("soft0");
  } catch (const Error& error) {
    complaint = error.what();
  }
  unsetenv("VERBENA_FAULT");
  EXPECT_NE(complaint.find("VERBENA_FAULT"), complaint.npos) << complaint;
}

constexpr Faults::Patience patient{
    .timeout_ns = 1000, .retries = 7, .not_ready_ns = 10, .not_ready_retries = 7};

/// When each of `count` operations goes, asked every `step` ns.
std::vector<std::int64_t> times(Faults& faults, std::size_t count, std::int64_t step) {
  std::vector<std::int64_t> went;
  for (std::int64_t now = 0; went.size() < count; now += step) {
    while (went.size() < count && faults.fate(true, now, patient) == goes) {
      went.push_back(now);
      faults.went();
    }
  }
  return went;
}

TEST(FaultsTest, TheSameSeedAndQueuePairGiveTheSameFates) {
  const FaultPlan plan = FaultPlan::parse("seed=5,drop=0.2,rnr=0.2");
  Faults one(plan, 3);
  Faults same(plan, 3);
  Faults other_queue_pair(plan, 4);
  Faults other_seed(FaultPlan::parse("seed=6,drop=0.2,rnr=0.2"), 3);
  const auto fates = times(one, 100, 10);
  EXPECT_EQ(fates, times(same, 100, 10));
  EXPECT_NE(fates, times(other_queue_pair, 100, 10));
  EXPECT_NE(fates, times(other_seed, 100, 10));
}

TEST(FaultsTest, HowOftenOneAsksMakesNoDifference) {
  const FaultPlan plan = FaultPlan::parse("drop=0.2,rnr=0.2");
  Faults often(plan, 0);
  Faults seldom(plan, 0);
  EXPECT_EQ(times(often, 100, 1), times(seldom, 100, 10));
}

TEST(FaultsTest, ProbabilitiesAreMet) {
  Faults faults(FaultPlan::parse("late=1ms,late-chance=0.1"), 0);
  int late = 0;
  for (int i = 0; i < 10'000; ++i) late += faults.late_answer() > 0;
  EXPECT_NEAR(late, 1000, 150);  // five standard deviations
}

TEST(FaultsTest, ALostTryIsRepeatedAfterTheTimeoutAsOftenAsTheQueuePairSays) {
  Faults faults(FaultPlan::parse("drop=1"), 0);
  const Faults::Patience twice{.timeout_ns = 1000, .retries = 2, .not_ready_ns = 0, .not_ready_retries = 0};
  EXPECT_EQ(faults.fate(false, 0, twice), waits);
  EXPECT_EQ(faults.fate(false, 999, twice), waits);
  EXPECT_EQ(faults.fate(false, 1000, twice), waits);
  EXPECT_EQ(faults.fate(false, 1999, twice), waits);
  EXPECT_EQ(faults.fate(false, 2000, twice), lost);
}

TEST(FaultsTest, OnlyWhatTakesAReceiveMeetsNone) {
  Faults faults(FaultPlan::parse("rnr=1"), 0);
  const Faults::Patience once{.timeout_ns = 0, .retries = 0, .not_ready_ns = 10, .not_ready_retries = 1};
  EXPECT_EQ(faults.fate(false, 0, once), goes);
  faults.went();
  EXPECT_EQ(faults.fate(true, 0, once), waits);
  EXPECT_EQ(faults.fate(true, 10, once), refused);
}

TEST(FaultsTest, ALinkIsCutBehindItsLastOperation) {
  Faults faults(FaultPlan::parse("kill-link-after=2"), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(faults.fate(true, 0, patient), goes);
    faults.went();
  }
  EXPECT_EQ(faults.fate(true, 0, patient), cut);
  faults.begin_anew();
  EXPECT_EQ(faults.fate(true, 0, patient), goes);
}

TEST(FaultsTest, ACopyIsLateOnce) {
  Faults faults(FaultPlan::parse("late=2ms"), 0);
  EXPECT_EQ(faults.fate(false, 0, patient), goes);
  EXPECT_EQ(faults.late_request(), 2'000'000);
  EXPECT_EQ(faults.fate(false, 5, patient), goes);  // it was blocked, and is tried again
  EXPECT_EQ(faults.late_request(), 0);
}

}  // namespace
}  // namespace verbena::test
