// SPDX-License-Identifier: Apache-2.0
// What is queued within one turn leaves together, and arrives as if it hadn't.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

TEST(PackingTest, CallsOfOneTurnAreAllAnswered) {
  Dice dice;
  Options options = small_options();
  options.request_depth = options.call_depth = 64;
  Calls calls{options, options};
  for (std::size_t round = 0; round < rounds(300); ++round) {
    const std::size_t count = dice.between(1, 64);
    std::deque<Outcome> outcomes(count);
    std::vector<Message> requests;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t most = dice.one_in(10) ? 3 * options.eager_size : dice.one_in(3) ? 300 : 20;
      requests.push_back(message(dice.between(0, most), static_cast<std::uint32_t>(i)));
      std::error_code error;
      calls.until("room for a call", [&] {  // large ones have less of it
        error = calls.client.call(echo, requests.back(), outcomes[i].handler());
        return error != code(errc::overloaded) && error != code(errc::no_credit);
      });
      ASSERT_FALSE(error) << error.message();
    }
    calls.until("all answers", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(outcomes[i].times, 1);
      ASSERT_EQ(outcomes[i].error, std::error_code{});
      ASSERT_NO_FATAL_FAILURE(expect_equal(outcomes[i].reply, requests[i]));
    }
  }
}

TEST(PackingTest, ManySmallCallsTakeFewReceives) {
  Calls calls;
  const std::uint64_t before = calls.server_loop.statistics().frames_received;
  std::deque<Outcome> outcomes(16);
  for (Outcome& outcome : outcomes) ASSERT_FALSE(calls.client.call(echo, message(8), outcome.handler()));
  calls.until("all answers", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  EXPECT_EQ(calls.server_loop.statistics().frames_received - before, 1U);
  EXPECT_EQ(calls.server_loop.statistics().messages_received, 16U);
}

TEST(PackingTest, MessagesAndCallsKeepTheirOrderAmongThemselves) {
  Dice dice;
  Connected both;
  Inbox inbox{both.server};
  std::vector<Message> sent;
  for (std::size_t round = 0; round < rounds(200); ++round) {
    for (std::size_t i = dice.between(1, 12); i > 0; --i) {
      sent.push_back(
          message(dice.between(0, dice.one_in(8) ? 1024 : 40), static_cast<std::uint32_t>(sent.size())));
      both.send_when_it_may(sent.back());
    }
    both.turn();
  }
  both.until("all messages", [&] { return inbox.messages.size() == sent.size(); });
  for (std::size_t i = 0; i < sent.size(); ++i)
    ASSERT_NO_FATAL_FAILURE(expect_equal(inbox.messages[i], sent[i]));
}

TEST(PackingTest, MessagesBehindALargeOneWaitForItThoughTheyCameInOneFrame) {
  Connected both;
  Inbox inbox{both.server};
  for (std::uint32_t round = 0; round < 20; ++round) {
    const Message large = message(100'000, round);
    Noted done;
    both.until("room", [&] { return !both.client.send(large, done); });
    for (std::uint32_t i = 1; i <= 5; ++i) both.send_when_it_may(message(10 * i, round + i));
    both.until("all of a round", [&] { return inbox.messages.size() == 6 && done.done(); });
    expect_equal(inbox.messages[0], large);
    for (std::uint32_t i = 1; i <= 5; ++i) expect_equal(inbox.messages[i], message(10 * i, round + i));
    inbox.messages.clear();
  }
}

TEST(PackingTest, AHandlerThatEndsTheConnectionMeetsNoFurtherRecord) {
  Connected both;
  int met = 0;
  both.server.on_message([&](std::span<const std::byte>) {
    ++met;
    both.server.close();
  });
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(both.client.send(message(8)));
  Ending ending{both.client};
  both.until("the end", [&] { return ending.times > 0; });
  EXPECT_EQ(met, 1);
}

}  // namespace
}  // namespace verbena::test
