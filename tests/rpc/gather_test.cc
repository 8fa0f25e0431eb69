// SPDX-License-Identifier: Apache-2.0
// Requests and replies of many pieces arrive as one.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

struct Pieces {
  Pieces(Dice& dice, std::size_t count, std::size_t longest) {
    for (std::size_t i = 0; i < count; ++i)
      parts.push_back(message(dice.between(0, longest), static_cast<std::uint32_t>(i)));
    for (const Message& part : parts) {
      views.emplace_back(part);
      whole.insert(whole.end(), part.begin(), part.end());
    }
  }
  rpc::Gather gather() const { return rpc::Gather{views}; }
  std::vector<Message> parts;
  std::vector<rpc::Bytes> views;
  Message whole;
};

void expect_echo(Calls& calls, const Pieces& pieces) {
  Outcome outcome;
  std::error_code error;
  calls.until("room", [&] {
    error = calls.client.call(echo, pieces.gather(), outcome.handler());
    return error != code(errc::overloaded) && error != code(errc::no_credit);
  });
  ASSERT_FALSE(error) << error.message();
  calls.until("the echo", [&] { return outcome.done(); });
  ASSERT_EQ(outcome.error, std::error_code{});
  expect_equal(outcome.reply, pieces.whole);
}

TEST(GatherTest, AShortRequestOfManyPieces) {
  Dice dice;
  Calls calls;
  for (std::size_t round = 0; round < rounds(300); ++round)
    ASSERT_NO_FATAL_FAILURE(expect_echo(calls, Pieces(dice, dice.between(0, 20), 40)));
}

TEST(GatherTest, ALongRequestIsReadPieceByPiece) {
  Dice dice;
  Calls calls;
  for (std::size_t round = 0; round < rounds(100); ++round) {
    const std::uint64_t copied = calls.client_loop.statistics().messages_sent;
    ASSERT_NO_FATAL_FAILURE(expect_echo(calls, Pieces(dice, dice.between(2, 8), 60'000)));
    EXPECT_LE(calls.client_loop.statistics().messages_sent - copied, 3U);
  }
}

TEST(GatherTest, TooManyPiecesOfALongRequestAreRefused) {
  Dice dice;
  Calls calls;
  const Pieces pieces(dice, 9, 10'000);
  ASSERT_GT(pieces.whole.size(), small_options().eager_size);
  Outcome outcome;
  EXPECT_EQ(calls.client.call(echo, pieces.gather(), outcome.handler()), code(errc::invalid_argument));
  calls.settle(100);
  EXPECT_EQ(outcome.times, 0);
  calls.expect_echo(message(8));
}

TEST(GatherTest, AReplyOfManyPieces) {
  Dice dice;
  Calls calls;
  for (const std::size_t longest : {10, 200, 30'000}) {
    const Pieces pieces(dice, 12, longest);
    calls.server.on(9, [&](rpc::Bytes, rpc::Reply& reply) { reply.send(pieces.gather()); });
    for (int i = 0; i < 5; ++i) {
      Outcome outcome;
      ASSERT_FALSE(calls.client.call(9, {}, outcome.handler()));
      calls.until("the reply", [&] { return outcome.done(); });
      ASSERT_EQ(outcome.error, std::error_code{});
      expect_equal(outcome.reply, pieces.whole);
    }
  }
}

}  // namespace
}  // namespace verbena::test
