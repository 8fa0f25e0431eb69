// SPDX-License-Identifier: Apache-2.0
// Two-sided messages: every flavour of send, its completion on both sides, its content.
#include <cerrno>
#include <cstring>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class SendTest : public DeviceTest {};

TEST_F(SendTest, AMessageArrivesWithItsContentAndLength) {
  Pair pair{device()};
  Dice dice;
  Buffer& from = pair.a.buffer(100);
  Buffer& into = pair.b.buffer(200);
  dice.fill(from.bytes());
  into.fill(0xee);
  pair.b.post_receive(into.piece(), 7);
  pair.a.post(send({from.piece()}).with_id(3));

  expect_success(pair.a.sent(), IBV_WC_SEND, 3, pair.a);
  const ibv_wc received = pair.b.received();
  expect_success(received, IBV_WC_RECV, 7, pair.b);
  EXPECT_EQ(received.byte_len, 100U);
  EXPECT_EQ(received.wc_flags & (IBV_WC_WITH_IMM | IBV_WC_WITH_INV), 0U);
  expect_equal(into.bytes(0, 100), from.bytes());
  for (const std::byte rest : into.bytes(100, 100)) ASSERT_EQ(rest, std::byte{0xee});
}

TEST_F(SendTest, ImmediateDataArrivesWithTheMessage) {
  Pair pair{device()};
  Buffer& into = pair.b.buffer(16);
  Buffer& from = pair.a.buffer(16);
  pair.b.post_receive(into.piece());
  pair.a.post(send_with_imm({from.piece()}, 0xcafe1234));
  expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  const ibv_wc received = pair.b.received();
  expect_success(received, IBV_WC_RECV, 0, pair.b);
  EXPECT_NE(received.wc_flags & IBV_WC_WITH_IMM, 0U);
  EXPECT_EQ(ntohl(received.imm_data), 0xcafe1234U);
  EXPECT_EQ(received.byte_len, 16U);
}

TEST_F(SendTest, AnEmptyMessageCompletesOnBothSides) {
  Pair pair{device()};
  pair.b.post_receive(Pieces{}, 4);
  pair.a.post(send_with_imm({}, 5).with_id(6));
  expect_success(pair.a.sent(), IBV_WC_SEND, 6, pair.a);
  const ibv_wc received = pair.b.received();
  expect_success(received, IBV_WC_RECV, 4, pair.b);
  EXPECT_EQ(received.byte_len, 0U);
  EXPECT_EQ(ntohl(received.imm_data), 5U);
}

TEST_F(SendTest, AnInlineMessageIsTakenWhenPosted) {
  Pair pair{device()};
  Buffer& into = pair.b.buffer(64);
  pair.b.post_receive(into.piece());
  std::array<std::byte, 48> text{};
  std::memset(text.data(), 0x42, text.size());
  // No key: inline data is read by the CPU.
  pair.a.post(send({{reinterpret_cast<std::uintptr_t>(text.data()), text.size(), 0}}).inlined());
  std::memset(text.data(), 0, text.size());
  expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
  for (const std::byte byte : into.bytes(0, text.size())) ASSERT_EQ(byte, std::byte{0x42});
}

TEST_F(SendTest, InlineOfExactlyTheGrantedSizeFitsAndOneByteMoreIsRefused) {
  Pair pair{device()};
  const std::size_t limit = pair.a.granted().max_inline_data;
  ASSERT_GE(limit, 64U);
  Buffer& from = pair.a.buffer(limit + 1);
  Buffer& into = pair.b.buffer(limit + 1);
  Dice dice;
  dice.fill(from.bytes());
  pair.b.post_receive(into.piece());
  pair.a.post(send({from.piece(0, limit)}).inlined());
  expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  EXPECT_EQ(pair.b.received().byte_len, limit);
  expect_equal(into.bytes(0, limit), from.bytes(0, limit));

  const int error = pair.a.try_post(send({from.piece()}).inlined());
  EXPECT_TRUE(error == EINVAL || error == ENOMEM) << "errno value " << error;  // HCAs answer either
}

TEST_F(SendTest, GatherAndScatterListsSplitAnywhere) {
  Pair pair{device()};
  Dice dice;
  constexpr std::size_t size = 4000;
  Buffer& from = pair.a.buffer(size);
  Buffer& into = pair.b.buffer(size);
  const auto split = [&](Buffer& buffer) {
    Pieces pieces;
    std::size_t offset = 0;
    for (int cut = 0; cut < 3; ++cut) {
      const std::size_t length = dice.between(0, size - offset);
      pieces.push_back(buffer.piece(offset, length));
      offset += length;
    }
    pieces.push_back(buffer.piece(offset, size - offset));
    std::erase_if(pieces, [](const ibv_sge& piece) { return piece.length == 0; });
    return pieces;
  };
  for (int round = 0; round < 50; ++round) {
    dice.fill(from.bytes());
    into.fill(0);
    pair.b.post_receive(split(into));
    pair.a.post(send(split(from)));
    expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
    EXPECT_EQ(pair.b.received().byte_len, size);
    expect_equal(into.bytes(), from.bytes());
  }
}

TEST_F(SendTest, InlinePiecesAreGathered) {
  Pair pair{device()};
  Dice dice;
  Buffer& from = pair.a.buffer(64);
  Buffer& into = pair.b.buffer(64);
  dice.fill(from.bytes());
  pair.b.post_receive({into.piece(0, 10), into.piece(10, 54)});
  pair.a.post(send({from.piece(0, 1), from.piece(1, 30), from.piece(31, 33)}).inlined());
  expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  EXPECT_EQ(pair.b.received().byte_len, 64U);
  expect_equal(into.bytes(), from.bytes());
}

TEST_F(SendTest, UnsignalledSendsLeaveOneCompletionInN) {
  Pair pair{device()};
  constexpr std::uint64_t messages = 1000;
  constexpr std::uint64_t signal_every = 8;
  Buffer& from = pair.a.buffer(64);
  Buffer& into = pair.b.buffer(64);
  pair.b.post_receive(into.piece());
  for (std::uint64_t i = 1; i <= messages; ++i) {
    from.set_word(i);
    Work work = send({from.piece()}).with_id(i).inlined();
    const bool signalled = i % signal_every == 0;
    pair.a.post(signalled ? work : std::move(work).unsignalled());
    expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
    ASSERT_EQ(into.word(), i);
    pair.b.post_receive(into.piece());
    if (signalled) expect_success(pair.a.sent(), IBV_WC_SEND, i, pair.a);
  }
  EXPECT_TRUE(pair.a.nothing_sent());
}

TEST_F(SendTest, SignalAllSignalsUnflaggedSends) {
  Pair pair{device(), EndpointOptions{.signal_all = true}};
  pair.b.post_receive(Pieces{});
  pair.a.post(send({}).with_id(11).unsignalled());
  expect_success(pair.a.sent(), IBV_WC_SEND, 11, pair.a);
}

TEST_F(SendTest, AChainIsSentInItsOrder) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(10 * 8);
  Buffer& into = pair.b.buffer(10 * 8);
  std::vector<Work> chain;
  for (std::uint64_t i = 0; i < 10; ++i) {
    from.set_word(100 + i, i * 8);
    pair.b.post_receive(into.piece(i * 8, 8), i);
    chain.push_back(send({from.piece(i * 8, 8)}).with_id(i));
  }
  std::size_t bad = 0;
  ASSERT_EQ(pair.a.try_post(chain, bad), 0);
  for (std::uint64_t i = 0; i < 10; ++i) {
    expect_success(pair.a.sent(), IBV_WC_SEND, i, pair.a);
    expect_success(pair.b.received(), IBV_WC_RECV, i, pair.b);
    EXPECT_EQ(into.word(i * 8), 100 + i);
  }
}

TEST_F(SendTest, BothDirectionsAtOnce) {
  Pair pair{device()};
  for (std::uint64_t i = 0; i < 16; ++i) {
    pair.a.post_receive(Pieces{}, i);
    pair.b.post_receive(Pieces{}, i);
  }
  for (std::uint64_t i = 0; i < 16; ++i) {
    pair.a.post(send_with_imm({}, static_cast<std::uint32_t>(i)));
    pair.b.post(send_with_imm({}, static_cast<std::uint32_t>(100 + i)));
  }
  for (std::uint64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(ntohl(pair.b.received().imm_data), i);
    EXPECT_EQ(ntohl(pair.a.received().imm_data), 100 + i);
    expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
    expect_success(pair.b.sent(), IBV_WC_SEND, 0, pair.b);
  }
}

TEST_F(SendTest, AQueuePairMayBeConnectedToItself) {
  Endpoint self{device()};
  self.connect(self.facts());
  Buffer& from = self.buffer(32);
  Buffer& into = self.buffer(32);
  from.fill(0x31);
  self.post_receive(into.piece(), 1);
  self.post(send({from.piece()}).with_id(2));
  expect_success(self.sent(), IBV_WC_SEND, 2, self);
  expect_success(self.received(), IBV_WC_RECV, 1, self);
  expect_equal(into.bytes(), from.bytes());
}

TEST_F(SendTest, AMessageOfManyPacketsArrivesWhole) {
  Pair pair{device()};
  Dice dice;
  constexpr std::size_t size = (1 << 20) + 17;
  Buffer& from = pair.a.buffer(size, MemoryKind::mapped);
  Buffer& into = pair.b.buffer(size, MemoryKind::shared);
  dice.fill(from.bytes());
  pair.b.post_receive(into.piece());
  pair.a.post(send({from.piece()}));
  expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  EXPECT_EQ(pair.b.received().byte_len, size);
  expect_equal(into.bytes(), from.bytes());
}

}  // namespace
}  // namespace verbena::test
