// SPDX-License-Identifier: Apache-2.0
// A receiver that doesn't poll stalls its sender, and nothing is lost.
#include "transport/loops.h"

namespace verbena::test {
namespace {

/// Sends numbered messages until one is refused; how many were taken.
std::uint32_t send_until_refused(Connection& connection, std::uint32_t first, std::size_t size,
                                 std::error_code& why) {
  std::uint32_t number = first;
  while (number - first < 100'000) {
    why = connection.send(message(size, number));
    if (why) break;
    ++number;
  }
  return number - first;
}

class CreditsTest : public testing::TestWithParam<std::size_t> {};

TEST_P(CreditsTest, AReceiverThatDoesNotPollStallsTheSenderAndLosesNothing) {
  Connected both;
  Inbox inbox{both.server};
  std::uint32_t sent = 0;
  for (int round = 0; round < 10; ++round) {
    std::error_code why;
    for (int tries = 0; tries < 3; ++tries) {  // turning the sender alone brings no more
      sent += send_until_refused(both.client, sent, GetParam(), why);
      EXPECT_EQ(why, code(errc::no_credit));
      for (int i = 0; i < 200; ++i) both.client_loop.poll();
    }
    EXPECT_LE(sent - inbox.messages.size(), small_options().request_depth);
    both.send_when_it_may(message(GetParam(), sent++));
    both.until("what was sent", [&] { return inbox.messages.size() == sent; });
  }
  for (std::uint32_t i = 0; i < sent; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_equal(inbox.messages[i], message(GetParam(), i)));
  }
}

// Inline, and through the pool.
INSTANTIATE_TEST_SUITE_P(Sizes, CreditsTest, testing::Values(8, 900));

TEST(CreditTest, AWindowOfTwoIsEnoughToGoOn) {
  Options options = small_options();
  options.request_depth = 2;
  Connected both{options, options};
  Inbox inbox{both.server};
  std::uint32_t sent = 0;
  both.until("200 messages", [&] {
    while (sent < 200 && !both.client.send(message(8, sent))) ++sent;
    return inbox.messages.size() == 200;
  });
}

TEST(CreditTest, TheGrantTravelsWithOtherMessagesWhereThereAreSome) {
  Connected both;
  Inbox at_client{both.client};
  both.server.on_message([&](std::span<const std::byte> bytes) { EXPECT_FALSE(both.server.send(bytes)); });
  for (std::uint32_t i = 0; i < 200; ++i) {
    ASSERT_FALSE(both.client.send(message(8, i)));
    both.until("an echo", [&] { return at_client.messages.size() == i + 1; });
  }
  EXPECT_EQ(both.server_loop.statistics().credit_messages_sent, 0U);
}

TEST(CreditTest, ALongStreamGoesOn) {
  Options options = small_options();
  options.request_depth = 256;
  Connected both{options, options};
  std::uint32_t received = 0;
  both.server.on_message([&](std::span<const std::byte>) { ++received; });
  const std::uint32_t count = on_soft0() ? 200'000 : 5000;
  const Message bytes = message(8);
  std::uint32_t sent = 0;
  both.until(
      "a long stream",
      [&] {
        while (sent < count && !both.client.send(bytes)) ++sent;
        return received == count;
      },
      4 * patience);
}

}  // namespace
}  // namespace verbena::test
