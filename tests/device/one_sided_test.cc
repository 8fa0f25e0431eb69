// SPDX-License-Identifier: Apache-2.0
// Writes, reads and atomics: what they move, between each kind of memory, and what the target learns of it.
#include "device/device_test.h"

namespace verbena::test {
namespace {

class OneSidedTest : public DeviceTest {};

TEST_F(OneSidedTest, AWriteArrivesAndTheTargetLearnsNothing) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(128);
  Buffer& target = pair.b.buffer(256);
  from.fill(0x12);
  target.fill(0x99);
  pair.a.post(write({from.piece()}, target.remote(64)).with_id(8));
  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 8, pair.a);
  expect_equal(target.bytes(64, 128), from.bytes());
  for (const std::byte byte : target.bytes(0, 64)) ASSERT_EQ(byte, std::byte{0x99});
  for (const std::byte byte : target.bytes(192, 64)) ASSERT_EQ(byte, std::byte{0x99});
  EXPECT_TRUE(pair.b.nothing_received());
}

TEST_F(OneSidedTest, AWriteWithImmediateTakesAReceiveAndTellsItsLength) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(40);
  Buffer& target = pair.b.buffer(40);
  from.fill(0x34);
  pair.b.post_receive(Pieces{}, 21);
  pair.a.post(write_with_imm({from.piece()}, target.remote(), 0x01020304));
  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
  const ibv_wc received = pair.b.received();
  expect_success(received, IBV_WC_RECV_RDMA_WITH_IMM, 21, pair.b);
  EXPECT_NE(received.wc_flags & IBV_WC_WITH_IMM, 0U);
  EXPECT_EQ(ntohl(received.imm_data), 0x01020304U);
  EXPECT_EQ(received.byte_len, 40U);
  expect_equal(target.bytes(), from.bytes());
}

TEST_F(OneSidedTest, AWriteWithImmediateLeavesTheReceivesMemoryAlone) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(16);
  Buffer& target = pair.b.buffer(16);
  Buffer& of_receive = pair.b.buffer(16);
  of_receive.fill(0x66);
  pair.b.post_receive(of_receive.piece());
  pair.a.post(write_with_imm({from.piece()}, target.remote(), 1));
  expect_success(pair.b.received(), IBV_WC_RECV_RDMA_WITH_IMM, 0, pair.b);
  for (const std::byte byte : of_receive.bytes()) ASSERT_EQ(byte, std::byte{0x66});
  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
}

TEST_F(OneSidedTest, AReadFetches) {
  Pair pair{device()};
  Buffer& into = pair.a.buffer(5000);
  Buffer& source = pair.b.buffer(5000);
  Dice dice;
  dice.fill(source.bytes());
  pair.a.post(read({into.piece(0, 1000), into.piece(1000, 4000)}, source.remote()).with_id(5));
  const ibv_wc completion = pair.a.sent();
  expect_success(completion, IBV_WC_RDMA_READ, 5, pair.a);
  EXPECT_EQ(completion.byte_len, 5000U);
  expect_equal(into.bytes(), source.bytes());
}

TEST_F(OneSidedTest, AFetchAddAddsAndTellsTheValueBefore) {
  Pair pair{device()};
  Buffer& result = pair.a.buffer(8);
  Buffer& counter = pair.b.buffer(64);
  counter.set_word(40, 8);
  pair.a.post(fetch_add(result.piece(), counter.remote(8), 2).with_id(1));
  const ibv_wc completion = pair.a.sent();
  expect_success(completion, IBV_WC_FETCH_ADD, 1, pair.a);
  EXPECT_EQ(completion.byte_len, 8U);
  EXPECT_EQ(result.word(), 40U);
  EXPECT_EQ(counter.word(8), 42U);
}

TEST_F(OneSidedTest, ACompareSwapSwapsOnlyWhenEqual) {
  Pair pair{device()};
  Buffer& result = pair.a.buffer(8);
  Buffer& word = pair.b.buffer(8);
  word.set_word(7);
  pair.a.post(compare_swap(result.piece(), word.remote(), 7, 9));
  expect_success(pair.a.sent(), IBV_WC_COMP_SWAP, 0, pair.a);
  EXPECT_EQ(result.word(), 7U);
  EXPECT_EQ(word.word(), 9U);
  pair.a.post(compare_swap(result.piece(), word.remote(), 7, 11));
  expect_success(pair.a.sent(), IBV_WC_COMP_SWAP, 0, pair.a);
  EXPECT_EQ(result.word(), 9U);
  EXPECT_EQ(word.word(), 9U);
}

TEST_F(OneSidedTest, AtomicsOfTwoInitiatorsDontLoseAny) {
  Endpoint target{device()};
  Endpoint target_too{device(), EndpointOptions{.pd = target.pd()}};
  Endpoint one{device()};
  Endpoint two{device()};
  connect(one, target);
  connect(two, target_too);
  Buffer& counter = target.buffer(8);
  Buffer& result_one = one.buffer(8);
  Buffer& result_two = two.buffer(8);
  constexpr std::uint64_t rounds = 500;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    one.post(fetch_add(result_one.piece(), counter.remote(), 1));
    two.post(fetch_add(result_two.piece(), counter.remote(), 1));
    expect_success(one.sent(), IBV_WC_FETCH_ADD, 0, one);
    expect_success(two.sent(), IBV_WC_FETCH_ADD, 0, two);
    ASSERT_NE(result_one.word(), result_two.word());
  }
  EXPECT_EQ(counter.word(), 2 * rounds);
}

TEST_F(OneSidedTest, AnEmptyWriteAndAnEmptyReadNeedNoKey) {
  Pair pair{device()};
  pair.a.post(write({}, Remote{0, 0}).with_id(1));
  pair.a.post(read({}, Remote{0, 0}).with_id(2));
  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 1, pair.a);
  expect_success(pair.a.sent(), IBV_WC_RDMA_READ, 2, pair.a);
}

TEST_F(OneSidedTest, AnInlineWriteIsTakenWhenPosted) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(16);
  Buffer& target = pair.b.buffer(16);
  from.fill(0x21);
  pair.a.post(write({from.piece()}, target.remote()).inlined());
  from.fill(0);
  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
  for (const std::byte byte : target.bytes()) ASSERT_EQ(byte, std::byte{0x21});
}

TEST_F(OneSidedTest, MoreReadsThanMayBeOutstandingWaitTheirTurn) {
  Pair pair{device()};  // its options allow 4 outstanding reads
  Buffer& source = pair.b.buffer(20 * 64);
  Buffer& into = pair.a.buffer(20 * 64);
  Dice dice;
  dice.fill(source.bytes());
  for (std::uint64_t i = 0; i < 20; ++i) {
    pair.a.post(read({into.piece(i * 64, 64)}, source.remote(i * 64)).with_id(i));
  }
  for (std::uint64_t i = 0; i < 20; ++i) expect_success(pair.a.sent(), IBV_WC_RDMA_READ, i, pair.a);
  expect_equal(into.bytes(), source.bytes());
}

/// Initiator's and target's kind of memory.
class OneSidedMemoryTest : public OneSidedTest,
                           public testing::WithParamInterface<std::tuple<MemoryKind, MemoryKind>> {};

TEST_P(OneSidedMemoryTest, EveryOpcodeMovesTheRightBytes) {
  const auto [near_kind, far_kind] = GetParam();
  Pair pair{device()};
  Dice dice;
  constexpr std::size_t size = 20'000;
  Buffer& near = pair.a.buffer(size, near_kind);
  Buffer& far = pair.b.buffer(size, far_kind);
  std::vector<std::byte> near_model(size);
  std::vector<std::byte> far_model(size);
  const auto refill = [&] {
    dice.fill(near.bytes());
    dice.fill(far.bytes());
    near_model.assign(near.bytes().begin(), near.bytes().end());
    far_model.assign(far.bytes().begin(), far.bytes().end());
  };
  for (int round = 0; round < 40; ++round) {
    refill();
    const std::size_t length = dice.between(0, size);
    const std::size_t here = dice.between(0, size - length);
    const std::size_t there = dice.between(0, size - length);
    switch (round % 4) {
      case 0:
        pair.a.post(write({near.piece(here, length)}, far.remote(there)));
        std::copy_n(near_model.begin() + static_cast<long>(here), length,
                    far_model.begin() + static_cast<long>(there));
        break;
      case 1:
        pair.a.post(read({near.piece(here, length)}, far.remote(there)));
        std::copy_n(far_model.begin() + static_cast<long>(there), length,
                    near_model.begin() + static_cast<long>(here));
        break;
      case 2:
        pair.b.post_receive(far.piece(there, length));
        pair.a.post(send({near.piece(here, length)}));
        std::copy_n(near_model.begin() + static_cast<long>(here), length,
                    far_model.begin() + static_cast<long>(there));
        break;
      default: {
        const std::uint64_t before = far.word(64);
        const std::uint64_t sum = before + length;
        pair.a.post(fetch_add(near.piece(0, 8), far.remote(64), length));
        std::copy_n(reinterpret_cast<const std::byte*>(&before), 8, near_model.begin());
        std::copy_n(reinterpret_cast<const std::byte*>(&sum), 8, far_model.begin() + 64);
      }
    }
    EXPECT_EQ(name_of(pair.a.sent().status), name_of(IBV_WC_SUCCESS));
    if (round % 4 == 2) {
      EXPECT_EQ(pair.b.received().byte_len, length);
    }
    expect_equal(near.bytes(), near_model);
    expect_equal(far.bytes(), far_model);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OneSidedMemoryTest,
    testing::Combine(testing::Values(MemoryKind::heap, MemoryKind::mapped, MemoryKind::shared),
                     testing::Values(MemoryKind::heap, MemoryKind::mapped, MemoryKind::shared)),
    [](const auto& kinds) {
      return name_of(std::get<0>(kinds.param)) + "To" + name_of(std::get<1>(kinds.param));
    });

}  // namespace
}  // namespace verbena::test
