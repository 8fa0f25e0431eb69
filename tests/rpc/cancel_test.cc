// SPDX-License-Identifier: Apache-2.0
// A call that is given up completes once, with `cancelled`.
#include <chrono>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;

TEST(CancelTest, ItCompletesOnceAndNotInsideCancel) {
  Calls calls;
  Outcome outcome;
  rpc::Ticket ticket;
  ASSERT_FALSE(calls.client.call(keep, message(8), outcome.handler(), {.ticket = &ticket}));
  calls.client.cancel(ticket);
  calls.client.cancel(ticket);
  EXPECT_FALSE(outcome.done());
  calls.until("the cancellation", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  EXPECT_EQ(calls.client.in_flight(), 0U);
  calls.until("the request", [&] { return !calls.kept.empty(); });
  calls.kept.front().send(message(8));
  calls.until("the late reply", [&] { return calls.client_loop.statistics().late_replies == 1; });
  EXPECT_EQ(outcome.times, 1);
}

TEST(CancelTest, ACallThatHasCompletedIsLeftAlone) {
  Calls calls;
  Outcome outcome;
  rpc::Ticket ticket;
  ASSERT_FALSE(calls.client.call(echo, message(8), outcome.handler(), {.ticket = &ticket}));
  calls.until("the reply", [&] { return outcome.done(); });
  Outcome next;  // in the same place of the table
  ASSERT_FALSE(calls.client.call(keep, message(8), next.handler()));
  calls.client.cancel(ticket);
  calls.until("the request", [&] { return !calls.kept.empty(); });
  calls.settle(200);
  EXPECT_FALSE(next.done());
  calls.kept.front().send({});
  calls.until("its reply", [&] { return next.done(); });
  EXPECT_EQ(next.error, std::error_code{});
  EXPECT_EQ(outcome.times, 1);
}

TEST(CancelTest, TheDeadlineOfACancelledCallDoesNothing) {
  Calls calls;
  Outcome outcome;
  rpc::Ticket ticket;
  constexpr auto deadline = 100ms;  // on a busy machine the cancellation must still come first
  const auto end = std::chrono::steady_clock::now() + 2 * deadline;
  ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler(), {.deadline = deadline, .ticket = &ticket}));
  calls.client.cancel(ticket);
  calls.until("the cancellation", [&] { return outcome.done(); });
  calls.until("the deadline's time", [&] { return std::chrono::steady_clock::now() > end; });
  EXPECT_EQ(outcome.times, 1);
  EXPECT_EQ(outcome.error, code(errc::cancelled));
}

TEST(CancelTest, ALargeRequestIsTheCallersAgain) {
  Calls calls;
  Message request = message(200'000);
  Outcome outcome;
  rpc::Ticket ticket;
  ASSERT_FALSE(calls.client.call(keep, request, outcome.handler(), {.ticket = &ticket}));
  calls.until("the request", [&] { return !calls.kept.empty(); });
  calls.client.cancel(ticket);
  calls.until("the cancellation", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  calls.kept.clear();
  calls.expect_echo(message(200'000));
}

TEST(CancelTest, MadeUpTicketsNameNothing) {
  Dice dice;
  Calls calls;
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler()));
  for (int i = 0; i < 1000; ++i)
    calls.client.cancel(
        {static_cast<std::uint32_t>(dice.word()), static_cast<std::uint32_t>(dice.word() | 1 << 20)});
  calls.until("the request", [&] { return !calls.kept.empty(); });
  calls.kept.front().send({});
  calls.until("the reply", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, std::error_code{});
}

}  // namespace
}  // namespace verbena::test
