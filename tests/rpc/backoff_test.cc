// SPDX-License-Identifier: Apache-2.0
// The pauses between tries, and the values that a policy may have.
#include "rpc/backoff.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "verbena/error.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using rpc::Backoff;
using rpc::ReconnectPolicy;

TEST(BackoffTest, ThePausesGrowUpToTheMost) {
  Backoff backoff{{.first = 10ms, .most = 100ms, .factor = 2, .jitter = 0}, 1};
  for (const auto pause : {10ms, 20ms, 40ms, 80ms, 100ms, 100ms}) EXPECT_EQ(backoff.next(), pause);
  backoff.reset();
  EXPECT_EQ(backoff.next(), 10ms);
}

TEST(BackoffTest, ChanceShortensThemByItsShareAtMost) {
  Backoff backoff{{.first = 100ms, .most = 100ms, .factor = 3, .jitter = 0.2}, 1};
  std::chrono::nanoseconds shortest = 1h;
  std::chrono::nanoseconds longest = 0ns;
  for (int i = 0; i < 1000; ++i) {
    const auto pause = backoff.next();
    shortest = std::min(shortest, pause);
    longest = std::max(longest, pause);
  }
  EXPECT_GE(shortest, 80ms);
  EXPECT_LT(shortest, 85ms);
  EXPECT_GT(longest, 95ms);
  EXPECT_LE(longest, 100ms);
}

TEST(BackoffTest, TwoClientsComeBackAtDifferentMoments) {
  Backoff one{{}, 1};
  Backoff same{{}, 1};
  Backoff other{{}, 2};
  bool differ = false;
  for (int i = 0; i < 10; ++i) {
    const auto pause = one.next();
    EXPECT_EQ(same.next(), pause);
    differ |= other.next() != pause;
  }
  EXPECT_TRUE(differ);
}

struct Mistake {
  const char* name;
  std::function<void(ReconnectPolicy&)> make;
};

TEST(ReconnectPolicyTest, ItsDefaultsAndItsLimitsAreValid) {
  EXPECT_NO_THROW(ReconnectPolicy{}.validate());
  EXPECT_NO_THROW((ReconnectPolicy{.first = 1ms, .most = 1ms, .factor = 1, .jitter = 0}).validate());
  EXPECT_NO_THROW((ReconnectPolicy{.first = 1h, .most = 1h, .factor = 100, .jitter = 1}).validate());
}

TEST(ReconnectPolicyTest, AMistakeIsRefusedByItsName) {
  const std::vector<Mistake> mistakes{{"first", [](ReconnectPolicy& p) { p.first = 0ms; }},
                                      {"first", [](ReconnectPolicy& p) { p.first = 2h; }},
                                      {"most", [](ReconnectPolicy& p) { p.most = 9ms; }},
                                      {"most", [](ReconnectPolicy& p) { p.most = 2h; }},
                                      {"factor", [](ReconnectPolicy& p) { p.factor = 0.9; }},
                                      {"factor", [](ReconnectPolicy& p) { p.factor = 101; }},
                                      {"factor", [](ReconnectPolicy& p) { p.factor = NAN; }},
                                      {"jitter", [](ReconnectPolicy& p) { p.jitter = -0.1; }},
                                      {"jitter", [](ReconnectPolicy& p) { p.jitter = 1.1; }}};
  for (const Mistake& mistake : mistakes) {
    ReconnectPolicy policy;
    mistake.make(policy);
    try {
      policy.validate();
      ADD_FAILURE() << mistake.name << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), make_error_code(errc::invalid_argument));
      EXPECT_EQ(std::string(error.what()).find(mistake.name), 0U) << error.what();
    }
  }
}

}  // namespace
}  // namespace verbena::test
