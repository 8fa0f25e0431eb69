// SPDX-License-Identifier: Apache-2.0
// Full queues: a refused request is named, costs nothing, and the queue goes on.
#include <cerrno>

#include "device/device_test.h"

namespace verbena::test {
namespace {

/// Beyond any rounding up of what was asked for.
constexpr std::size_t plenty = 1000;

class QueueLimitsTest : public DeviceTest {};

TEST_F(QueueLimitsTest, AFullSendQueueRefusesAndNamesTheRequest) {
  // Nobody receives, and retries go on for ever, so that nothing leaves the queue.
  Pair pair{device(),
            EndpointOptions{.send_depth = 16, .completions = 2000, .receiver_not_ready_retries = 7}};
  std::vector<Work> chain;
  for (std::size_t i = 0; i < plenty; ++i) chain.push_back(send({}).with_id(i));
  std::size_t bad = 0;
  EXPECT_EQ(pair.a.try_post(chain, bad), ENOMEM);
  EXPECT_GE(bad, pair.a.granted().max_send_wr);
  EXPECT_LT(bad, plenty);
  EXPECT_EQ(pair.a.try_post(send({})), ENOMEM);

  // What was taken before the refused one goes its way.
  for (std::size_t i = 0; i < bad; ++i) {
    wait_until("room in the receive queue", [&] { return pair.b.try_post_receive({}) == 0; });
    expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
    expect_success(pair.a.sent(), IBV_WC_SEND, i, pair.a);
  }
  pair.b.post_receive(Pieces{});
  pair.a.post(send({}).with_id(plenty));
  expect_success(pair.a.sent(), IBV_WC_SEND, plenty, pair.a);
}

TEST_F(QueueLimitsTest, UnsignalledSendsHoldTheirPlacesUntilASignalledOneCompletes) {
  Pair pair{device(), EndpointOptions{.send_depth = 16}};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8);
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 15; ++i) pair.a.post(write({near.piece()}, far.remote()).unsignalled());
    pair.a.post(write({near.piece()}, far.remote()));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
  }
}

TEST_F(QueueLimitsTest, AFullReceiveQueueRefusesAndTakesAgainAfterAMessage) {
  Pair pair{device(), EndpointOptions{.receive_depth = 16}};
  std::size_t taken = 0;
  int error = 0;
  while (taken < plenty && (error = pair.b.try_post_receive({}, taken)) == 0) ++taken;
  EXPECT_EQ(error, ENOMEM);
  EXPECT_TRUE(pair.b.names_refused_receive());
  EXPECT_GE(taken, pair.b.granted().max_recv_wr);
  pair.a.post(send({}));
  expect_success(pair.b.received(), IBV_WC_RECV, 0, pair.b);
  pair.b.post_receive(Pieces{});
}

TEST_F(QueueLimitsTest, MorePiecesThanGrantedAreRefused) {
  Pair pair{device(), EndpointOptions{.gather = 2}};
  Buffer& near = pair.a.buffer(512);
  const Pieces too_many(pair.a.granted().max_send_sge + 1, near.piece(0, 1));
  const int error = pair.a.try_post(send(too_many));
  EXPECT_TRUE(error == EINVAL || error == ENOMEM) << "errno value " << error;
  const Pieces too_many_receives(pair.a.granted().max_recv_sge + 1, near.piece(0, 1));
  const int receive_error = pair.a.try_post_receive(too_many_receives);
  EXPECT_TRUE(receive_error == EINVAL || receive_error == ENOMEM) << "errno value " << receive_error;
}

TEST_F(QueueLimitsTest, WhatExceedsTheDeviceIsRefusedAtCreation) {
  ibv_device_attr attr{};
  ASSERT_EQ(device().query_device(attr), 0);
  EXPECT_EQ(device().create_cq(attr.max_cqe + 1, nullptr, nullptr, 0), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_THROW((Endpoint{device(), {.gather = static_cast<std::uint32_t>(attr.max_sge) + 1}}),
               std::system_error);
  EXPECT_THROW((Endpoint{device(), {.send_depth = static_cast<std::uint32_t>(attr.max_qp_wr) + 1}}),
               std::system_error);
  EXPECT_THROW((Endpoint{device(), {.inline_size = 1U << 20}}), std::system_error);
}

TEST_F(QueueLimitsTest, AnOverflownCompletionQueueHarmsNothingElse) {
  {
    Pair pair{device(), EndpointOptions{.send_depth = 512, .completions = 4}};
    Buffer& near = pair.a.buffer(8);
    Buffer& far = pair.b.buffer(8);
    // Far more than any rounding up of four entries. What is posted after the overflow may be refused.
    for (int i = 0; i < 400; ++i) pair.a.try_post(write({near.piece()}, far.remote()));
    ibv_wc completion{};
    for (int i = 0; i < 400; ++i) ibv_poll_cq(pair.a.send_cq(), 1, &completion);
  }
  Pair other{device()};
  other.b.post_receive(Pieces{});
  other.a.post(send({}));
  expect_success(other.a.sent(), IBV_WC_SEND, 0, other.a);
}

TEST_F(QueueLimitsTest, AnObjectInUseIsNotDestroyed) {
  Endpoint endpoint{device()};
  endpoint.buffer(64);
  EXPECT_EQ(device().dealloc_pd(endpoint.pd()), EBUSY);
  EXPECT_EQ(device().destroy_cq(endpoint.send_cq()), EBUSY);
}

TEST_F(QueueLimitsTest, QueuePairNumbersAreUnique) {
  std::vector<std::unique_ptr<Endpoint>> many;
  std::vector<std::uint32_t> numbers;
  for (int i = 0; i < 32; ++i) {
    many.push_back(std::make_unique<Endpoint>(device()));
    EXPECT_EQ(std::count(numbers.begin(), numbers.end(), many.back()->number()), 0);
    EXPECT_LT(many.back()->number(), 1U << 24);
    numbers.push_back(many.back()->number());
  }
}

}  // namespace
}  // namespace verbena::test
