// SPDX-License-Identifier: Apache-2.0
// Messages that their receiver reads: bounded in number and in memory.
#include <algorithm>

#include "transport/loops.h"

namespace verbena::test {
namespace {

TEST(LargeMessagesTest, TheLongestOneArrives) {
  Connected both;
  Inbox inbox{both.server};
  const Message bytes = message(small_options().large_bytes);
  Noted sent;
  ASSERT_FALSE(both.client.send(bytes, sent));
  both.until("the longest message", [&] { return sent.done(); });
  EXPECT_EQ(sent.bytes, bytes.size());
  ASSERT_EQ(inbox.messages.size(), 1U);
  expect_equal(inbox.messages.front(), bytes);
}

TEST(LargeMessagesTest, ItIsUnderWayUntilThePeerHasReadIt) {
  Connected both;
  const Message bytes = message(5000);
  Noted sent;
  ASSERT_FALSE(both.client.send(bytes, sent));
  for (int i = 0; i < 2000; ++i) both.client_loop.poll();
  EXPECT_FALSE(sent.done());
  both.until("its reading", [&] { return sent.done(); });
  EXPECT_EQ(sent.error, std::error_code{});
}

TEST(LargeMessagesTest, MoreThanTheDeclaredNumberIsOverloadedAndPasses) {
  Connected both;
  Inbox inbox{both.server};
  const Message bytes = message(5000);
  std::deque<Noted> sent(small_options().large_depth);
  for (Noted& one : sent) ASSERT_FALSE(both.client.send(bytes, one));
  Noted too_many;
  EXPECT_EQ(both.client.send(bytes, too_many), code(errc::overloaded));
  both.until("their reading", [&] { return sent.back().done(); });
  EXPECT_FALSE(too_many.done());
  EXPECT_FALSE(both.client.send(bytes, too_many));
  both.until("one more", [&] { return inbox.messages.size() == sent.size() + 1 && too_many.done(); });
}

TEST(LargeMessagesTest, MoreThanTheMemoryHoldsWaitForOneAnother) {
  Connected both;
  Inbox inbox{both.server};
  std::deque<Message> messages;
  std::deque<Noted> sent(small_options().large_depth);
  for (Noted& one : sent) {  // each takes more than half of the memory
    messages.push_back(message(3 << 20, static_cast<std::uint32_t>(messages.size())));
    ASSERT_FALSE(both.client.send(messages.back(), one));
  }
  both.until("all of them", [&] { return inbox.messages.size() == messages.size() && sent.back().done(); });
  for (std::size_t i = 0; i < messages.size(); ++i) expect_equal(inbox.messages[i], messages[i]);
}

TEST(LargeMessagesTest, SeveralPeersShareTheMemory) {
  Loops loops;
  std::vector<Connection> servers;
  std::vector<Connection> clients;
  std::size_t received = 0;
  const Listener listener = listen(loops.server_loop, address_of(0), [&](Connection connection) {
    connection.on_message([&](std::span<const std::byte> bytes) {
      expect_equal(bytes, message(3 << 20));
      ++received;
    });
    servers.push_back(std::move(connection));
  });
  for (int i = 0; i < 4; ++i) {
    connect(loops.client_loop, address_of(listener.port()),
            [&](const Error*, Connection connection) { clients.push_back(std::move(connection)); });
  }
  loops.until("four connections", [&] { return servers.size() == 4 && clients.size() == 4; });
  const Message bytes = message(3 << 20);
  std::deque<Noted> sent;
  for (int round = 0; round < 2; ++round) {
    for (Connection& client : clients) ASSERT_FALSE(client.send(bytes, sent.emplace_back()));
  }
  loops.until("eight large messages",
              [&] { return received == 8 && std::ranges::all_of(sent, &Noted::done); });
}

TEST(LargeMessagesTest, OneThatIsUnderWayWhenTheConnectionEndsCompletesOnce) {
  Connected both;
  Ending ending{both.client};
  const Message bytes = message(5000);
  std::deque<Noted> sent(small_options().large_depth);
  for (Noted& one : sent) ASSERT_FALSE(both.client.send(bytes, one));
  both.server.close();
  both.until("the end", [&] { return ending.times > 0; });
  for (const Noted& one : sent) EXPECT_EQ(one.times, 1);
}

}  // namespace
}  // namespace verbena::test
