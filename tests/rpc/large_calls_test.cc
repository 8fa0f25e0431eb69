// SPDX-License-Identifier: Apache-2.0
// Many large requests and replies at once: they share memory and places, and none is lost.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

TEST(LargeCallsTest, AllReplyPlacesAtOnceAreAnswered) {
  Calls calls;
  calls.server.on(7, [](rpc::Bytes request, rpc::Reply& reply) {
    reply.send(message(20'000, static_cast<std::uint32_t>(request.size())));
  });
  std::deque<Outcome> outcomes(
      small_options().call_depth);  // four times as many as large ones may be under way
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    ASSERT_FALSE(calls.client.call(7, message(i), outcomes[i].handler()));
  calls.until("their replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i].error, std::error_code{});
    expect_equal(outcomes[i].reply, message(20'000, static_cast<std::uint32_t>(i)));
  }
}

TEST(LargeCallsTest, RepliesThatFillTheMemoryWaitForOneAnother) {
  Calls calls;
  calls.server.on(7, [](rpc::Bytes, rpc::Reply& reply) { reply.send(message(3 << 20)); });
  std::deque<Outcome> outcomes(8);
  for (Outcome& outcome : outcomes) ASSERT_FALSE(calls.client.call(7, {}, outcome.handler()));
  calls.until("their replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.error, std::error_code{});
    expect_equal(outcome.reply, message(3 << 20));
  }
}

TEST(LargeCallsTest, SizesMixed) {
  Dice dice;
  Calls calls;
  struct One {
    Message request;
    Outcome outcome;
  };
  std::deque<One> all;
  std::size_t begun = 0;
  for (std::size_t i = 0; i < rounds(500); ++i) {
    const std::size_t size = dice.one_in(3) ? dice.between(1025, 300'000) : dice.between(0, 1100);
    all.push_back({message(size, static_cast<std::uint32_t>(i)), {}});
  }
  calls.until(
      "all sizes",
      [&] {
        while (begun < all.size() &&
               !calls.client.call(echo, all[begun].request, all[begun].outcome.handler()))
          ++begun;
        return begun == all.size() &&
               std::ranges::all_of(all, [](const One& one) { return one.outcome.done(); });
      },
      4 * patience);
  for (const One& one : all) {
    EXPECT_EQ(one.outcome.error, std::error_code{});
    ASSERT_NO_FATAL_FAILURE(expect_equal(one.outcome.reply, one.request));
  }
}

TEST(LargeCallsTest, ManyAreSentFromBothEndsAtOnce) {
  Calls calls;
  rpc::Server other_server{calls.client_loop, address_of(0)};
  other_server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  rpc::Client other_client;
  rpc::connect(calls.server_loop, address_of(other_server.port()),
               [&](const Error*, rpc::Client made) { other_client = std::move(made); });
  calls.until("the way back", [&] { return other_client.is_open(); });
  const Message request = message(1 << 20);
  std::size_t begun = 0;
  std::size_t finished = 0;
  const std::size_t count = rounds(100);
  const auto note = [&](std::error_code error, rpc::Bytes reply) {
    EXPECT_FALSE(error);
    expect_equal(reply, request);
    ++finished;
  };
  calls.until(
      "both directions",
      [&] {
        for (rpc::Client* client : {&calls.client, &other_client}) {
          while (begun < count && !client->call(echo, request, note)) ++begun;
        }
        return finished == count;
      },
      4 * patience);
}

}  // namespace
}  // namespace verbena::test
