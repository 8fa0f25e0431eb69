// SPDX-License-Identifier: Apache-2.0
// Calls that aren't answered in time: they complete once, and what comes late finds nothing.
#include <chrono>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;

TEST(DeadlinesTest, ACallThatIsNotAnsweredInTimeTimesOutOnce) {
  Calls calls;
  Outcome outcome;
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_FALSE(calls.client.call(keep, message(8), outcome.handler(), 30ms));
  calls.until("the deadline", [&] { return outcome.done(); });
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(outcome.error, code(errc::timed_out));
  EXPECT_GE(took, 30ms);
  EXPECT_LT(took, 1s);
  EXPECT_EQ(calls.client.in_flight(), 0U);
  calls.kept.front().send(message(8));
  calls.until("the late reply", [&] { return calls.client_loop.statistics().late_replies == 1; });
  calls.settle(100);
  EXPECT_EQ(outcome.times, 1);
}

TEST(DeadlinesTest, ItsPlaceComesBackWithTheLateReply) {
  Calls calls;
  const unsigned depth = small_options().call_depth;
  std::deque<Outcome> outcomes(depth);
  for (Outcome& outcome : outcomes) ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler(), 10ms));
  calls.until("the deadlines", [&] { return calls.client.in_flight() == 0; });
  Outcome next;
  EXPECT_EQ(calls.client.call(echo, {}, next.handler()), code(errc::overloaded));
  calls.until("the replies at the server", [&] { return calls.kept.size() == depth; });
  calls.kept.pop_front();  // unanswered: that is an answer as well
  calls.until("a late reply", [&] { return calls.client_loop.statistics().late_replies == 1; });
  EXPECT_EQ(calls.client.call(echo, {}, next.handler()), std::error_code{});
  calls.until("the next call", [&] { return next.done(); });
  EXPECT_EQ(next.error, std::error_code{});
  calls.kept.clear();
  calls.until("all late replies", [&] { return calls.client_loop.statistics().late_replies == depth; });
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.times, 1);
}

TEST(DeadlinesTest, ACallThatIsAnsweredInTimeHasNoDeadlineAfterwards) {
  Calls calls;
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(echo, {}, outcome.handler(), 50ms));
  calls.until("its answer", [&] { return outcome.done(); });
  const auto end = std::chrono::steady_clock::now() + 100ms;
  calls.until("the time of its deadline", [&] { return std::chrono::steady_clock::now() > end; });
  EXPECT_EQ(outcome.times, 1);
  EXPECT_EQ(outcome.error, std::error_code{});
}

TEST(DeadlinesTest, EachCallHasItsOwn) {
  Calls calls;
  std::vector<int> order;
  const auto note = [&order](int number) {
    return [&order, number](std::error_code error, rpc::Bytes) {
      EXPECT_EQ(error, code(errc::timed_out));
      order.push_back(number);
    };
  };
  ASSERT_FALSE(calls.client.call(keep, {}, note(3), 90ms));
  ASSERT_FALSE(calls.client.call(keep, {}, note(1), 30ms));
  ASSERT_FALSE(calls.client.call(keep, {}, note(2), 60ms));
  calls.until("three deadlines", [&] { return order.size() == 3; });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(DeadlinesTest, AHandlerMayCallAgainWhenItTimesOut) {
  Calls calls;
  Outcome second;
  ASSERT_FALSE(calls.client.call(
      keep, {},
      [&](std::error_code error, rpc::Bytes) {
        EXPECT_EQ(error, code(errc::timed_out));
        EXPECT_FALSE(calls.client.call(keep, {}, second.handler(), 20ms));
      },
      20ms));
  calls.until("the second deadline", [&] { return second.done(); });
  EXPECT_EQ(second.error, code(errc::timed_out));
}

TEST(DeadlinesTest, ASleepingLoopWakesForThem) {
  Calls calls;
  Outcome outcome;
  calls.until("the connection at rest", [&] { return calls.client.is_open(); });
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler(), 20ms));
  calls.client_loop.run_until(
      [&] { return outcome.done() || std::chrono::steady_clock::now() > begin + patience; });
  EXPECT_EQ(outcome.error, code(errc::timed_out));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 1s);
  EXPECT_GT(calls.client_loop.statistics().sleeps, 0U);
}

TEST(DeadlinesTest, ALargeRequestIsTheCallersAgain) {
  Calls calls;
  calls.server.on(7, [&](rpc::Bytes request, rpc::Reply& reply) {
    expect_equal(request, message(100'000));
    calls.kept.push_back(std::move(reply));
  });
  Outcome outcome;
  {
    const Message request = message(100'000);
    ASSERT_FALSE(calls.client.call(7, request, outcome.handler(), 50ms));
    calls.until("its reading", [&] { return calls.kept.size() == 1; });
    calls.until("its deadline", [&] { return outcome.done(); });
  }
  EXPECT_EQ(outcome.error, code(errc::timed_out));
  calls.kept.clear();
  calls.until("the late reply", [&] { return calls.client_loop.statistics().late_replies == 1; });
  calls.expect_echo(message(100'000));
}

}  // namespace
}  // namespace verbena::test
