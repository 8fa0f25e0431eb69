// SPDX-License-Identifier: Apache-2.0
// A queue pair's operations take effect and complete in the order in which they were posted.
#include "device/device_test.h"

namespace verbena::test {
namespace {

class OrderingTest : public DeviceTest {};

TEST_F(OrderingTest, MixedOperationsCompleteInTheOrderPosted) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(4096);
  Buffer& far = pair.b.buffer(4096);
  // Apart from `far`: a posted receive's memory is the device's until it completes, and soft0 places a write
  // without waiting for the receiver to take the sends before it.
  Buffer& inbox = pair.b.buffer(64);
  Dice dice;
  for (int round = 0; round < 30; ++round) {
    std::vector<ibv_wc_opcode> expected;
    for (std::uint64_t i = 0; i < 16; ++i) {
      switch (dice.between(0, 4)) {
        case 0:
          pair.b.post_receive(inbox.piece());
          pair.a.post(send({near.piece(0, 64)}).with_id(i));
          expected.push_back(IBV_WC_SEND);
          break;
        case 1:
          pair.a.post(write({near.piece()}, far.remote()).with_id(i));
          expected.push_back(IBV_WC_RDMA_WRITE);
          break;
        case 2:
          pair.a.post(read({near.piece()}, far.remote()).with_id(i));
          expected.push_back(IBV_WC_RDMA_READ);
          break;
        case 3:
          pair.a.post(fetch_add(near.piece(0, 8), far.remote(), 1).with_id(i));
          expected.push_back(IBV_WC_FETCH_ADD);
          break;
        default:
          pair.a.post(compare_swap(near.piece(0, 8), far.remote(), 1, 2).with_id(i));
          expected.push_back(IBV_WC_COMP_SWAP);
      }
    }
    for (std::uint64_t i = 0; i < 16; ++i) {
      expect_success(pair.a.sent(), expected[i], i, pair.a);
      if (expected[i] == IBV_WC_SEND) expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
    }
  }
}

TEST_F(OrderingTest, AReceivedSendFindsTheWritesBeforeItDone) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8192);
  Buffer& far = pair.b.buffer(8192);
  for (std::uint64_t i = 1; i <= 200; ++i) {
    near.fill(static_cast<unsigned char>(i));
    pair.b.post_receive(Pieces{});
    pair.a.post(write({near.piece()}, far.remote()).unsignalled());
    pair.a.post(send({}));
    expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
    expect_equal(far.bytes(), near.bytes());
    expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  }
}

TEST_F(OrderingTest, AReadSeesTheWriteBeforeIt) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(64);
  Buffer& back = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(64);
  for (std::uint64_t i = 1; i <= 200; ++i) {
    near.set_word(i);
    pair.a.post(write({near.piece()}, far.remote()).unsignalled());
    pair.a.post(read({back.piece()}, far.remote()));
    expect_success(pair.a.sent(), IBV_WC_RDMA_READ, 0, pair.a);
    ASSERT_EQ(back.word(), i);
  }
}

TEST_F(OrderingTest, AFencedSendCarriesWhatTheReadBeforeItFetched) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8192);
  Buffer& source = pair.b.buffer(8192);
  Buffer& into = pair.b.buffer(8192);
  for (unsigned char i = 1; i <= 100; ++i) {
    source.fill(i);
    pair.b.post_receive(into.piece());
    pair.a.post(read({near.piece()}, source.remote()).unsignalled());
    pair.a.post(send({near.piece()}).fenced());
    expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
    expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
    expect_equal(into.bytes(), source.bytes());
  }
}

TEST_F(OrderingTest, AWritesLastByteIsSeenLast) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(4096, MemoryKind::shared);
  Buffer& far = pair.b.buffer(4096, MemoryKind::shared);
  // Two writes: programs that poll memory rely on the second not overtaking the first.
  for (std::uint64_t i = 1; i <= 300; ++i) {
    near.fill(static_cast<unsigned char>(i));
    near.set_word(i, 4088);
    pair.a.post(write({near.piece(0, 4088)}, far.remote()).unsignalled());
    pair.a.post(write({near.piece(4088, 8)}, far.remote(4088)));
    wait_until("the flag behind a write", [&] { return far.word(4088) == i; });
    expect_equal(far.bytes(0, 4088), near.bytes(0, 4088));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
  }
}

}  // namespace
}  // namespace verbena::test
