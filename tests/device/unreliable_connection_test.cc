// SPDX-License-Identifier: Apache-2.0
// UC: a connection whose sender never learns what became of a message.
#include <cerrno>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class UnreliableConnectionTest : public DeviceTest {
 protected:
  static constexpr EndpointOptions options{.type = IBV_QPT_UC};
  static constexpr std::size_t lengths[] = {1, 48, 49, 4096, 20'000, 200'000};

  /// Everything before it has arrived or is lost: a message with an immediate value of its own.
  static void expect_next(Endpoint& from, Endpoint& to, std::uint32_t immediate) {
    from.post(send_with_imm({}, immediate));
    EXPECT_EQ(name_of(from.sent().status), name_of(IBV_WC_SUCCESS));
    const ibv_wc completion = to.received();
    EXPECT_EQ(name_of(completion.status), name_of(IBV_WC_SUCCESS));
    EXPECT_EQ(ntohl(completion.imm_data), immediate);
  }
};

TEST_F(UnreliableConnectionTest, MessagesOfAnyLengthArriveInOrder) {
  Pair pair{device(), options};
  Dice dice;
  Buffer& from = pair.a.buffer(lengths[std::size(lengths) - 1]);
  Buffer& into = pair.b.buffer(from.size());
  dice.fill(from.bytes());
  for (std::uint64_t id = 0; const std::size_t length : lengths) {
    pair.b.post_receive(into.piece(), ++id);
    pair.a.post(send({from.piece(0, length)}).with_id(id));
    const ibv_wc received = pair.b.received();
    expect_success(received, IBV_WC_RECV, id, pair.b);
    EXPECT_EQ(received.byte_len, length);
    expect_success(pair.a.sent(), IBV_WC_SEND, id, pair.a);
    expect_equal(into.bytes(0, length), from.bytes(0, length));
  }
}

TEST_F(UnreliableConnectionTest, AWriteIsPlacedAndItsImmediateValueTakesAReceive) {
  Pair pair{device(), options};
  Dice dice;
  Buffer& from = pair.a.buffer(5000);
  Buffer& into = pair.b.buffer(5000);
  dice.fill(from.bytes());
  pair.b.post_receive(Pieces{}, 9);
  pair.a.post(write_with_imm({from.piece()}, into.remote(), 77));
  const ibv_wc received = pair.b.received();
  expect_success(received, IBV_WC_RECV_RDMA_WITH_IMM, 9, pair.b);
  EXPECT_EQ(ntohl(received.imm_data), 77U);
  expect_equal(into.bytes(), from.bytes());
}

TEST_F(UnreliableConnectionTest, WhatMeetsNoReceiveIsLostAndTheSenderSucceeds) {
  Pair pair{device(), options};
  Buffer& from = pair.a.buffer(lengths[std::size(lengths) - 1]);
  for (const std::size_t length : lengths) {
    pair.a.post(send({from.piece(0, length)}));
    // While the receiver has none: this completes when it has been looked at, or never came.
    wait_until("the send to be done", [&] {
      ibv_wc completion{};
      EXPECT_TRUE(pair.b.nothing_received());
      return ibv_poll_cq(pair.a.send_cq(), 1, &completion) == 1 && completion.status == IBV_WC_SUCCESS;
    });
  }
  EXPECT_TRUE(stays([&] { return pair.b.nothing_received(); }, std::chrono::milliseconds{20}));
  pair.b.post_receive(Pieces{});
  expect_next(pair.a, pair.b, 5);
}

TEST_F(UnreliableConnectionTest, WhatIsLongerThanItsReceiveIsLostAndTheReceiveIsForTheNext) {
  Pair pair{device(), options};
  Buffer& from = pair.a.buffer(20'000);
  Buffer& into = pair.b.buffer(100);
  into.fill(0x55);
  pair.b.post_receive(into.piece(), 4);
  pair.a.post(send({from.piece()}));
  if (!quirks().loses_what_is_too_long)
    return expect_status(pair.b.received(), quirks().message_longer_than_receive, 4, pair.b);
  wait_until("the send to be done", [&] {
    ibv_wc completion{};
    EXPECT_TRUE(pair.b.nothing_received());
    return ibv_poll_cq(pair.a.send_cq(), 1, &completion) == 1 && completion.status == IBV_WC_SUCCESS;
  });
  expect_next(pair.a, pair.b, 6);
}

TEST_F(UnreliableConnectionTest, ARefusedWriteTouchesNothingAndTheSenderSucceeds) {
  Pair pair{device(), options};
  Buffer& from = pair.a.buffer(64);
  Buffer& readable = pair.b.buffer(64, MemoryKind::heap, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
  from.fill(0x11);
  readable.fill(0x22);
  pair.a.post(write({from.piece()}, readable.remote()));
  EXPECT_EQ(name_of(pair.a.sent().status), name_of(IBV_WC_SUCCESS));
  pair.b.post_receive(Pieces{});
  expect_next(pair.a, pair.b, 7);
  for (const std::byte byte : readable.bytes()) ASSERT_EQ(byte, std::byte{0x22});
}

TEST_F(UnreliableConnectionTest, ReadsAndAtomicsAreRefusedWhenTheyArePosted) {
  if (!quirks().refuses_verbs_that_a_service_lacks) GTEST_SKIP() << "this device takes them";
  Pair pair{device(), options};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8);
  EXPECT_NE(pair.a.try_post(read({near.piece()}, far.remote())), 0);
  EXPECT_NE(pair.a.try_post(fetch_add(near.piece(), far.remote(), 1)), 0);
}

TEST_F(UnreliableConnectionTest, SendsToOneThatIsGoneSucceed) {
  Endpoint a{device(), options};
  {
    Endpoint b{device(), options};
    connect(a, b);
    b.post_receive(Pieces{});
    expect_next(a, b, 1);
  }
  for (int i = 0; i < 100; ++i) {
    a.post(send({}));
    EXPECT_EQ(name_of(a.sent().status), name_of(IBV_WC_SUCCESS));
  }
  EXPECT_EQ(a.state(), IBV_QPS_RTS);
}

}  // namespace
}  // namespace verbena::test
