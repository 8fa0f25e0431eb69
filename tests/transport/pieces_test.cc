// SPDX-License-Identifier: Apache-2.0
// Messages that are gathered from registered memory, without a copy.
#include <algorithm>

#include "transport/loops.h"

namespace verbena::test {
namespace {

class PiecesTest : public testing::Test {
 protected:
  PiecesTest() { std::ranges::copy(message(region.size()), region.bytes().begin()); }

  /// The message that arrives when `pieces` are sent.
  Message arrived(std::span<const Slice> pieces) {
    Noted sent;
    EXPECT_EQ(both.client.send(pieces, sent), std::error_code{});
    both.until("a gathered message", [&] { return sent.done() && !inbox.messages.empty(); });
    EXPECT_EQ(sent.error, std::error_code{});
    Message bytes = inbox.messages.front();
    inbox.messages.pop_front();
    EXPECT_EQ(sent.bytes, bytes.size());
    return bytes;
  }
  static Message joined(std::span<const Slice> pieces) {
    Message bytes;
    for (const Slice& piece : pieces) bytes.insert(bytes.end(), piece.data, piece.data + piece.length);
    return bytes;
  }

  Connected both;
  Inbox inbox{both.server};
  Region region = both.client_loop.memory().allocate(100'000);
};

TEST_F(PiecesTest, OneToFourPiecesArriveAsOneMessage) {
  std::vector<Slice> pieces;
  for (std::size_t count = 1; count <= 4; ++count) {
    pieces.push_back(region.slice(count * 1000, count * 50));
    SCOPED_TRACE(count);
    expect_equal(arrived(pieces), joined(pieces));
  }
}

TEST_F(PiecesTest, ThePiecesMayFillAMessage) {
  const std::vector<Slice> pieces{region.slice(0, 1000), region.slice(50'000, 24)};
  expect_equal(arrived(pieces), joined(pieces));
}

TEST_F(PiecesTest, OneLongPieceIsReadByThePeer) {
  const std::vector<Slice> pieces{region.slice()};
  expect_equal(arrived(pieces), joined(pieces));
  EXPECT_EQ(both.server_loop.statistics().large_messages_read, 1U);
}

TEST_F(PiecesTest, TheMemoryMayBeTheProgramsOwn) {
  Message own = message(500, 3);
  const Region shared = both.client_loop.memory().share(std::span<std::byte>(own), Access::local);
  const std::vector<Slice> pieces{shared.slice(100, 100), region.slice(0, 10), shared.slice(0, 100)};
  expect_equal(arrived(pieces), joined(pieces));
}

// ---- What is refused ----

TEST_F(PiecesTest, NoPieceAndFivePiecesAreRefused) {
  Noted sent;
  const std::vector<Slice> five(5, region.slice(0, 8));
  EXPECT_EQ(both.client.send(std::span<const Slice>{}, sent), code(errc::invalid_argument));
  EXPECT_EQ(both.client.send(five, sent), code(errc::invalid_argument));
  both.settle(100);
  EXPECT_FALSE(sent.done());
}

TEST_F(PiecesTest, SeveralPiecesLongerThanAMessageAreRefused) {
  Noted sent;
  const std::vector<Slice> pieces{region.slice(0, 1000), region.slice(0, 25)};
  EXPECT_EQ(both.client.send(pieces, sent), code(errc::message_too_long));
}

TEST_F(PiecesTest, AnUnregisteredPieceEndsTheConnection) {
  Ending ending{both.client};
  Noted sent;
  Message own = message(300);
  const std::vector<Slice> pieces{{own.data(), own.size(), 0x00ff'fe00}};
  ASSERT_EQ(both.client.send(pieces, sent), std::error_code{});
  both.until("the end", [&] { return ending.times > 0 && sent.done(); });
  EXPECT_TRUE(sent.error);
  EXPECT_EQ(sent.times, 1);
  EXPECT_EQ(ending.times, 1);
}

}  // namespace
}  // namespace verbena::test
