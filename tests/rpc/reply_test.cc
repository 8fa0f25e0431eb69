// SPDX-License-Identifier: Apache-2.0
// A reply is owed exactly once: at once, later, or by its destruction.
#include "rpc/calls.h"

namespace verbena::test {
namespace {

/// Calls `keep` and waits until the server holds its reply.
void call_and_keep(Calls& calls, Outcome& outcome) {
  const std::size_t before = calls.kept.size();
  ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler()));
  calls.until("a kept reply", [&] { return calls.kept.size() == before + 1; });
}

TEST(ReplyTest, OneThatWasMovedAwayIsAnsweredLater) {
  Calls calls;
  Outcome outcome;
  call_and_keep(calls, outcome);
  calls.settle(100);
  EXPECT_FALSE(outcome.done());
  EXPECT_FALSE(calls.kept.front().answered());
  calls.kept.front().send(message(30));
  EXPECT_TRUE(calls.kept.front().answered());
  calls.until("the answer", [&] { return outcome.done(); });
  expect_equal(outcome.reply, message(30));
}

TEST(ReplyTest, LaterAnswersMayComeInAnyOrder) {
  Calls calls;
  std::deque<Outcome> outcomes(10);
  for (Outcome& outcome : outcomes) call_and_keep(calls, outcome);
  for (std::uint32_t i = 10; i-- > 0;) calls.kept[i].send(message(20, i));
  calls.until("ten answers", [&] { return outcomes.front().done(); });
  for (std::uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(outcomes[i].times, 1);
    expect_equal(outcomes[i].reply, message(20, i));
  }
}

TEST(ReplyTest, OneThatIsDestroyedUnansweredIsAFailure) {
  Calls calls;
  Outcome forgotten;
  calls.server.on(7, [](rpc::Bytes, rpc::Reply&) {});
  ASSERT_FALSE(calls.client.call(7, {}, forgotten.handler()));
  Outcome dropped;
  call_and_keep(calls, dropped);
  calls.kept.clear();
  calls.until("both failures", [&] { return forgotten.done() && dropped.done(); });
  EXPECT_EQ(forgotten.error, code(errc::handler_failed));
  EXPECT_EQ(dropped.error, code(errc::handler_failed));
}

TEST(ReplyTest, AHandlerMayFailAsItLikes) {
  Calls calls;
  for (const errc why : {errc::handler_failed, errc::rejected, errc::overloaded, errc::cancelled}) {
    Outcome outcome;
    call_and_keep(calls, outcome);
    calls.kept.back().fail(why);
    calls.until("the failure", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, code(why));
    EXPECT_TRUE(outcome.reply.empty());
  }
}

TEST(ReplyTest, AHandlersOwnCodesBecomeAFailureOfTheHandler) {
  Calls calls;
  Outcome outcome;
  call_and_keep(calls, outcome);
  calls.kept.back().fail(errc::connection_lost);  // a server can't make its client believe that
  calls.until("the failure", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::handler_failed));
  EXPECT_TRUE(calls.client.is_open());
}

TEST(ReplyTest, OnlyTheFirstAnswerCounts) {
  Calls calls;
  Outcome outcome;
  calls.server.on(7, [](rpc::Bytes, rpc::Reply& reply) {
    reply.send(message(5));
    reply.send(message(6));
    reply.fail(errc::rejected);
  });
  ASSERT_FALSE(calls.client.call(7, {}, outcome.handler()));
  calls.until("the answer", [&] { return outcome.done(); });
  calls.settle(100);
  EXPECT_EQ(outcome.times, 1);
  expect_equal(outcome.reply, message(5));
}

TEST(ReplyTest, OneThatOutlivesItsConnectionGoesNowhere) {
  Calls calls;
  Outcome outcome;
  call_and_keep(calls, outcome);
  Outcome second;
  call_and_keep(calls, second);
  calls.client.close();
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  calls.until("the server's word of it", [&] { return calls.server.connections() == 0; });
  calls.settle(500);
  const rpc::Client next = connected(calls, calls.server.port());  // in the same place
  calls.kept[0].send(message(100));
  calls.kept.clear();
  calls.settle(500);
  EXPECT_EQ(outcome.times, 1);
  EXPECT_TRUE(next.is_open());
  EXPECT_EQ(calls.client_loop.statistics().late_replies, 0U);
}

}  // namespace
}  // namespace verbena::test
