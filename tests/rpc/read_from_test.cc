// SPDX-License-Identifier: Apache-2.0
// Which messages are read though they might be copied: Options::read_from, or what measuring says.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

constexpr std::uint32_t limit = 300;

Options reading_early() {
  Options options = small_options();
  options.read_from = limit;
  return options;
}

std::uint64_t read_by(const Loop& loop) {
  return loop.statistics().large_messages_read;
}

TEST(ReadFromTest, WhatSomebodyWaitsForIsReadFromThereOn) {
  Connected both{reading_early(), reading_early()};
  Inbox inbox{both.server};
  for (const std::size_t size : {std::size_t{limit} - 1, std::size_t{limit}}) {
    const std::uint64_t before = read_by(both.server_loop);
    Noted sent;
    const Message bytes = message(size);
    ASSERT_FALSE(both.client.send(bytes, sent));
    both.until("the message", [&] { return sent.done() && !inbox.messages.empty(); });
    expect_equal(inbox.messages.front(), bytes);
    inbox.messages.clear();
    EXPECT_EQ(read_by(both.server_loop) - before, size < limit ? 0U : 1U) << size;
  }
}

TEST(ReadFromTest, WhatNobodyWaitsForIsCopiedUpToTheEagerSize) {
  Connected both{reading_early(), reading_early()};
  Inbox inbox{both.server};
  Message bytes = message(small_options().eager_size);
  ASSERT_FALSE(both.client.send(bytes));
  std::ranges::fill(bytes, std::byte{0xee});
  both.until("the message", [&] { return !inbox.messages.empty(); });
  expect_equal(inbox.messages.front(), message(small_options().eager_size));
  EXPECT_EQ(read_by(both.server_loop), 0U);
  EXPECT_EQ(both.client.send(message(small_options().eager_size + 1)), code(errc::message_too_long));
}

TEST(ReadFromTest, MoreThanThePeerReadsAtOnceAreCopied) {
  Connected both{reading_early(), reading_early()};
  Inbox inbox{both.server};
  const std::size_t depth = small_options().large_depth;
  const Message bytes = message(1000);
  std::deque<Noted> sent(depth + 3);
  for (Noted& one : sent) ASSERT_FALSE(both.client.send(bytes, one));
  both.until("all messages",
             [&] { return inbox.messages.size() == sent.size() && std::ranges::all_of(sent, &Noted::done); });
  EXPECT_EQ(read_by(both.server_loop), depth);
  for (const Message& one : inbox.messages) expect_equal(one, bytes);
}

TEST(ReadFromTest, OnesThatThePeerDoesNotReadAreCopied) {
  Options options = reading_early();
  options.eager_size = 8192;
  options.large_bytes = 4096;
  Connected both{options, options};
  Inbox inbox{both.server};
  const Message bytes = message(8000);
  Noted sent;
  ASSERT_FALSE(both.client.send(bytes, sent));
  both.until("the message", [&] { return !inbox.messages.empty(); });
  expect_equal(inbox.messages.front(), bytes);
}

TEST(ReadFromTest, MorePiecesThanCanBeReadAreCopied) {
  Calls calls{reading_early(), reading_early()};
  const std::size_t most = calls.client.most_pieces();
  const Message request = message(20 * (most + 1));
  std::vector<rpc::Bytes> pieces;
  for (std::size_t i = 0; i <= most; ++i) pieces.push_back(rpc::Bytes(request).subspan(20 * i, 20));
  // Long enough to be read, by its last piece.
  const Message more = message(limit);
  pieces.back() = more;
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(echo, rpc::Gather{pieces}, outcome.handler()));
  calls.until("the reply", [&] { return outcome.done(); });
  EXPECT_FALSE(outcome.error) << outcome.error.message();
  Message whole(request.begin(), request.end() - 20);
  whole.insert(whole.end(), more.begin(), more.end());
  expect_equal(outcome.reply, whole);
  EXPECT_EQ(read_by(calls.server_loop), 0U);
}

TEST(ReadFromTest, ARequestIsReadAndItsReplyIsCopied) {
  Calls calls{reading_early(), reading_early()};
  EXPECT_EQ(calls.client.eager_size(), limit - 1);
  calls.expect_echo(message(1000));
  EXPECT_EQ(read_by(calls.server_loop), 1U);
  EXPECT_EQ(read_by(calls.client_loop), 0U);
}

TEST(ReadFromTest, ExplainSaysWhyAMessageIsRead) {
  Connected both{reading_early(), reading_early()};
  EXPECT_NE(both.client.explain(limit).find("read by the receiver"), std::string::npos);
  EXPECT_NE(both.client.explain(limit).find("read_from says to read from 300 bytes on"), std::string::npos);
  EXPECT_NE(both.client.explain(limit - 1).find("copied"), std::string::npos)
      << both.client.explain(limit - 1);
}

// The costs themselves depend on the machine; that there are any, and that the choice is theirs, doesn't.
TEST(ReadFromTest, WithoutItTheCheaperWayIsTakenAsMeasured) {
  Options options = small_options();
  options.eager_size = 1 << 20;
  options.request_depth = options.call_depth = 2;
  options.peers = 1;
  options.large_bytes = 2 << 20;
  Calls calls{options, options};
  const std::size_t copied = calls.client.eager_size();
  const std::string why = calls.client.explain(1 << 20);
  EXPECT_NE(why.find("measured: copying costs"), std::string::npos) << why;
  if (copied < options.eager_size) {
    EXPECT_NE(why.find("read by the receiver"), std::string::npos) << why;
    EXPECT_NE(why.find("less from " + std::to_string(copied + 1)), std::string::npos) << why;
  } else {
    EXPECT_NE(why.find("copied"), std::string::npos) << why;
  }
  calls.expect_echo(message(1 << 20));
  EXPECT_EQ(read_by(calls.server_loop), copied < options.eager_size ? 1U : 0U);
}

}  // namespace
}  // namespace verbena::test
