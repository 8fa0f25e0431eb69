// SPDX-License-Identifier: Apache-2.0
// Two sides that were given different options: the smaller of each pair is what both keep to.
#include "transport/loops.h"

namespace verbena::test {
namespace {

Options large_options() {
  Options options = small_options();
  options.eager_size = 8000;
  options.request_depth = 100;
  options.call_depth = 100;
  options.large_depth = 16;
  options.send_depth = 64;
  options.large_bytes = 8 << 20;
  return options;
}

class UnequalOptionsTest : public testing::TestWithParam<bool> {
 protected:
  UnequalOptionsTest()
      : both(GetParam() ? small_options() : large_options(), GetParam() ? large_options() : small_options()) {
  }
  Connected both;
};

TEST_P(UnequalOptionsTest, MessagesOfAllSizesArrive) {
  Inbox inbox{both.server};
  for (const std::size_t size : {0, 900, 1024, 1025, 5000, 7999, 8000, 8001, 100'000}) {
    SCOPED_TRACE(size);
    const Message bytes = message(size);
    Noted sent;
    ASSERT_FALSE(both.client.send(bytes, sent));
    both.until("a message", [&] { return sent.done() && !inbox.messages.empty(); });
    EXPECT_EQ(sent.error, std::error_code{});
    expect_equal(inbox.messages.front(), bytes);
    inbox.messages.clear();
  }
}

TEST_P(UnequalOptionsTest, AStallPassesAndLosesNothing) {
  Inbox inbox{both.server};
  for (const std::size_t size : {8, 700}) {
    inbox.messages.clear();
    std::uint32_t sent = 0;
    for (int round = 0; round < 10; ++round) {
      while (!both.client.send(message(size, sent))) ++sent;
      for (int i = 0; i < 100; ++i) both.client_loop.poll();
      while (!both.client.send(message(size, sent))) ++sent;
      both.send_when_it_may(message(size, sent++));
      both.until("what was sent", [&] { return inbox.messages.size() == sent; });
    }
    for (std::uint32_t i = 0; i < sent; ++i) {
      ASSERT_NO_FATAL_FAILURE(expect_equal(inbox.messages[i], message(size, i)));
    }
  }
}

TEST_P(UnequalOptionsTest, ManyLargeMessagesArrive) {
  Inbox inbox{both.server};
  std::deque<Noted> sent(50);
  const Message bytes = message(20'000);
  std::size_t started = 0;
  both.until("50 large messages", [&] {
    while (started < sent.size()) {
      const std::error_code error = both.client.send(bytes, sent[started]);
      if (error) {
        EXPECT_TRUE(error == code(errc::overloaded) || error == code(errc::no_credit)) << error.message();
        break;
      }
      ++started;
    }
    return inbox.messages.size() == sent.size() || !both.client.is_open();
  });
  EXPECT_EQ(inbox.messages.size(), sent.size());
  EXPECT_EQ(both.server_loop.statistics().violations, 0U);
}

INSTANTIATE_TEST_SUITE_P(Clients, UnequalOptionsTest, testing::Bool(),
                         [](const auto& larger) { return larger.param ? "Larger" : "Smaller"; });

}  // namespace
}  // namespace verbena::test
