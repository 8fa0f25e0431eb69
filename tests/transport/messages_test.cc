// SPDX-License-Identifier: Apache-2.0
// Messages arrive whole, once and in order, whatever way each of them takes.
#include <algorithm>

#include "transport/loops.h"

namespace verbena::test {
namespace {

/// Sends `bytes` as soon as the connection lets it.
void send_when_possible(Connected& both, const Message& bytes, Noted& sent) {
  both.until("room to send", [&] {
    const std::error_code error = both.client.send(bytes, sent);
    EXPECT_TRUE(!error || error == code(errc::no_credit) || error == code(errc::overloaded))
        << error.message();
    return !error;
  });
}

TEST(MessagesTest, EverySizeUpToThreeTimesTheEagerSizeArrives) {
  Connected both;
  Inbox inbox{both.server};
  const std::size_t last = 3 * std::size_t{small_options().eager_size};
  for (std::size_t size = 0; size <= last; size += on_soft0() ? 1 : 13) {
    const Message bytes = message(size, static_cast<std::uint32_t>(size));
    Noted sent;
    send_when_possible(both, bytes, sent);
    both.until("message of " + std::to_string(size), [&] { return sent.done() && !inbox.messages.empty(); });
    ASSERT_EQ(sent.error, std::error_code{});
    ASSERT_EQ(sent.times, 1);
    ASSERT_EQ(sent.bytes, size);
    ASSERT_EQ(inbox.messages.size(), 1U);
    ASSERT_NO_FATAL_FAILURE(expect_equal(inbox.messages.front(), bytes));
    inbox.messages.pop_front();
  }
}

TEST(MessagesTest, SmallAndLargeOnesKeepTheirOrder) {
  Dice dice;
  Connected both;
  Inbox inbox{both.server};
  std::vector<Message> messages;
  for (std::size_t i = 0; i < rounds(400); ++i) {
    const std::size_t size = dice.one_in(3) ? dice.between(1025, 200'000) : dice.between(0, 1024);
    messages.push_back(message(size, static_cast<std::uint32_t>(i)));
  }
  std::deque<Noted> sent(messages.size());
  for (std::size_t i = 0; i < messages.size(); ++i) send_when_possible(both, messages[i], sent[i]);
  both.until("all messages", [&] { return inbox.messages.size() == messages.size() && sent.back().done(); });
  for (std::size_t i = 0; i < messages.size(); ++i) {
    SCOPED_TRACE(i);
    ASSERT_NO_FATAL_FAILURE(expect_equal(inbox.messages[i], messages[i]));
  }
  both.until("all operations", [&] { return std::ranges::all_of(sent, &Noted::done); });
  for (const Noted& one : sent) EXPECT_EQ(one.times, 1);
}

TEST(MessagesTest, ACopiedMessageIsTheCallersAgainAtOnce) {
  Connected both;
  Inbox inbox{both.server};
  for (const std::size_t size : {1, 100, 1024}) {
    Message bytes = message(size);
    ASSERT_EQ(both.client.send(bytes), std::error_code{});
    std::ranges::fill(bytes, std::byte{0xee});
    both.until("a message", [&] { return !inbox.messages.empty(); });
    expect_equal(inbox.messages.front(), message(size));
    inbox.messages.clear();
  }
}

TEST(MessagesTest, ALargeMessageNeedsAnOperation) {
  Connected both;
  EXPECT_EQ(both.client.send(message(1025)), code(errc::message_too_long));
}

TEST(MessagesTest, AMessageLongerThanThePeerTakesIsRefused) {
  Connected both;
  const Message bytes = message(small_options().large_bytes + 1);
  Noted sent;
  EXPECT_EQ(both.client.send(bytes, sent), code(errc::message_too_long));
  both.settle(100);
  EXPECT_FALSE(sent.done());
  EXPECT_TRUE(both.client.is_open());
}

TEST(MessagesTest, BothSidesTalkAtOnce) {
  Connected both;
  Inbox at_server{both.server};
  Inbox at_client{both.client};
  const std::size_t count = rounds(3000);
  std::uint32_t to_server = 0;
  std::uint32_t to_client = 0;
  both.until(
      "two streams",
      [&] {
        while (to_server < count && !both.client.send(message(to_server % 1000, to_server))) ++to_server;
        while (to_client < count && !both.server.send(message(to_client % 900, to_client))) ++to_client;
        return at_server.messages.size() == count && at_client.messages.size() == count;
      },
      4 * patience);
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_equal(at_server.messages[i], message(i % 1000, i)));
    ASSERT_NO_FATAL_FAILURE(expect_equal(at_client.messages[i], message(i % 900, i)));
  }
}

TEST(MessagesTest, AHandlerMayAnswerFromWithin) {
  Connected both;
  Inbox at_client{both.client};
  both.server.on_message([&](std::span<const std::byte> bytes) { EXPECT_FALSE(both.server.send(bytes)); });
  ASSERT_FALSE(both.client.send(message(77)));
  both.until("the answer", [&] { return !at_client.messages.empty(); });
  expect_equal(at_client.messages.front(), message(77));
}

TEST(MessagesTest, TheStatisticsCountThem) {
  Connected both;
  Inbox inbox{both.server};
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(both.client.send(message(8)));
  Noted sent;
  const Message large = message(5000);
  ASSERT_FALSE(both.client.send(large, sent));
  both.until("six messages", [&] { return inbox.messages.size() == 6 && sent.done(); });
  EXPECT_EQ(both.client_loop.statistics().messages_sent, 6U);
  EXPECT_EQ(both.server_loop.statistics().messages_received, 6U);
  EXPECT_EQ(both.server_loop.statistics().large_messages_read, 1U);
  EXPECT_EQ(both.server_loop.statistics().violations, 0U);
  EXPECT_EQ(both.server_loop.statistics().stale_messages, 0U);
  EXPECT_GT(both.server_loop.statistics().turns, 0U);
}

TEST(MessagesTest, ItExplainsTheWayOfEachSize) {
  Connected both;
  EXPECT_NE(both.client.explain(8).find("inline"), std::string::npos) << both.client.explain(8);
  EXPECT_NE(both.client.explain(1024).find("copied"), std::string::npos) << both.client.explain(1024);
  EXPECT_NE(both.client.explain(1025).find("read"), std::string::npos) << both.client.explain(1025);
  EXPECT_NE(both.client.explain(5 << 20).find("too long"), std::string::npos) << both.client.explain(5 << 20);
  EXPECT_NE(both.client.explain().find(device_name()), std::string::npos) << both.client.explain();
}

}  // namespace
}  // namespace verbena::test
