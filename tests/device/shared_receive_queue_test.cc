// SPDX-License-Identifier: Apache-2.0
// One receive queue for several queue pairs, its limits and its events.
#include <fcntl.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <set>
#include <thread>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class SharedReceiveQueueTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pd_ = {device(), device().alloc_pd()};
    ASSERT_TRUE(pd_);
  }

  core::Handle<ibv_srq> make_srq(std::uint32_t depth, std::uint32_t pieces = 1) {
    ibv_srq_init_attr init{};
    init.attr.max_wr = depth;
    init.attr.max_sge = pieces;
    ibv_srq* srq = device().create_srq(pd_.get(), init);
    if (srq == nullptr)
      throw std::system_error(errno, std::generic_category(), "creating a shared receive queue");
    granted_ = init.attr;
    return {device(), srq};
  }

  static int post(ibv_srq* srq, std::uint64_t id, Pieces pieces = {}) {
    ibv_recv_wr request{};
    request.wr_id = id;
    request.sg_list = pieces.data();
    request.num_sge = static_cast<int>(pieces.size());
    ibv_recv_wr* bad = nullptr;
    const int error = ibv_post_srq_recv(srq, &request, &bad);
    EXPECT_EQ(bad, error == 0 ? nullptr : &request);
    return error;
  }

  ibv_pd* pd() { return pd_.get(); }
  std::uint32_t granted() const { return granted_.max_wr; }

 private:
  core::Handle<ibv_pd> pd_;
  ibv_srq_attr granted_{};
};

TEST_F(SharedReceiveQueueTest, SeveralQueuePairsShareItAndCompletionsTellWhose) {
  const auto srq = make_srq(64);
  Endpoint b1{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint b2{device(), {.pd = pd(), .srq = srq.get(), .receive_cq = b1.receive_cq()}};
  Endpoint b3{device(), {.pd = pd(), .srq = srq.get(), .receive_cq = b1.receive_cq()}};
  Endpoint a1{device()};
  Endpoint a2{device()};
  Endpoint a3{device()};
  connect(a1, b1);
  connect(a2, b2);
  connect(a3, b3);
  Buffer& into = b1.buffer(64 * 8);
  for (std::uint64_t i = 0; i < 60; ++i) ASSERT_EQ(post(srq.get(), i, {into.piece(i * 8, 8)}), 0);
  const std::array senders{&a1, &a2, &a3};
  const std::array receivers{&b1, &b2, &b3};
  std::set<std::uint64_t> used;
  Dice dice;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const std::size_t who = dice.between(0, 2);
    Endpoint& sender = *senders[who];
    Buffer& from = sender.buffer(8);
    from.set_word(1000 + i);
    sender.post(send({from.piece()}));
    const ibv_wc received = b1.received();
    EXPECT_EQ(received.qp_num, receivers[who]->number());
    EXPECT_TRUE(used.insert(received.wr_id).second);
    EXPECT_EQ(into.word(received.wr_id * 8), 1000 + i);
    expect_success(sender.sent(), IBV_WC_SEND, 0, sender);
  }
}

TEST_F(SharedReceiveQueueTest, QueuePairsOfSeveralCompletionQueuesNeverTakeTheSameReceive) {
  constexpr std::uint64_t depth = 8;
  const auto srq = make_srq(depth);
  Endpoint b1{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint b2{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint a1{device()};
  Endpoint a2{device()};
  connect(a1, b1);
  connect(a2, b2);
  std::array<std::atomic<bool>, depth> posted{};
  for (std::uint64_t id = 0; id < depth; ++id) {
    posted[id] = true;
    ASSERT_EQ(post(srq.get(), id), 0);
  }
  const std::size_t count = quirks().rounds * 100;
  const auto traffic = [&](Endpoint& from, Endpoint& to) {
    for (std::size_t i = 0; i < count; ++i) {
      from.post(send({}));
      const ibv_wc received = to.received();
      ASSERT_LT(received.wr_id, depth);
      EXPECT_TRUE(posted[received.wr_id].exchange(false))
          << "receive " << received.wr_id << " was taken twice";
      posted[received.wr_id] = true;
      ASSERT_EQ(post(srq.get(), received.wr_id), 0);
      expect_success(from.sent(), IBV_WC_SEND, 0, from);
    }
  };
  std::thread other([&] { traffic(a1, b1); });
  traffic(a2, b2);
  other.join();
}

TEST_F(SharedReceiveQueueTest, AFullQueueRefuses) {
  const auto srq = make_srq(16);
  EXPECT_GE(granted(), 16U);
  std::uint64_t taken = 0;
  int error = 0;
  while (taken < 1000 && (error = post(srq.get(), taken)) == 0) ++taken;
  EXPECT_EQ(error, ENOMEM);
  EXPECT_GE(taken, granted());
}

TEST_F(SharedReceiveQueueTest, AnEmptyQueueMeansReceiverNotReady) {
  const auto srq = make_srq(16);
  Endpoint b{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint a{device(), {.receiver_not_ready_retries = 1}};
  connect(a, b);
  a.post(send({}).with_id(1));
  expect_status(a.sent(), IBV_WC_RNR_RETRY_EXC_ERR, 1, a);
}

TEST_F(SharedReceiveQueueTest, QueryTellsDepthAndLimit) {
  const auto srq = make_srq(16);
  ibv_srq_attr attr{};
  ASSERT_EQ(device().query_srq(srq.get(), attr), 0);
  EXPECT_GE(attr.max_wr, 16U);
  EXPECT_EQ(attr.srq_limit, 0U);
  attr.srq_limit = 5;
  ASSERT_EQ(device().modify_srq(srq.get(), attr, IBV_SRQ_LIMIT), 0);
  ibv_srq_attr after{};
  ASSERT_EQ(device().query_srq(srq.get(), after), 0);
  EXPECT_EQ(after.srq_limit, 5U);
}

TEST_F(SharedReceiveQueueTest, FallingBelowTheLimitRaisesOneEvent) {
  const auto srq = make_srq(32);
  Endpoint b{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint a{device()};
  connect(a, b);
  for (std::uint64_t i = 0; i < 8; ++i) ASSERT_EQ(post(srq.get(), i), 0);
  ibv_srq_attr attr{};
  attr.srq_limit = 4;
  ASSERT_EQ(device().modify_srq(srq.get(), attr, IBV_SRQ_LIMIT), 0);
  pollfd descriptor{device().context()->async_fd, POLLIN, 0};
  for (int message = 0; message < 4; ++message) {
    a.post(send({}));
    expect_success(a.sent(), IBV_WC_SEND, 0, a);
    b.received();
  }
  EXPECT_EQ(poll(&descriptor, 1, 0), 0) << "an event came while as many receives as the limit were left";
  a.post(send({}));
  b.received();
  ASSERT_EQ(poll(&descriptor, 1, 10'000), 1)
      << "no event although three receives are left, and the limit is four";
  ibv_async_event event{};
  ASSERT_EQ(device().get_async_event(event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_SRQ_LIMIT_REACHED);
  EXPECT_EQ(event.element.srq, srq.get());
  device().ack_async_event(event);
  a.post(send({}));
  b.received();
  EXPECT_EQ(poll(&descriptor, 1, 0), 0) << "the limit is disarmed by its event";
}

TEST_F(SharedReceiveQueueTest, AFailedQueuePairLeavesTheReceivesToTheOthers) {
  const auto srq = make_srq(16);
  Endpoint b1{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint b2{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint a2{device()};
  b1.to_init();
  connect(a2, b2);
  ASSERT_EQ(post(srq.get(), 5), 0);
  ASSERT_EQ(b1.to(IBV_QPS_ERR), 0);
  EXPECT_TRUE(b1.nothing_received());
  a2.post(send({}));
  expect_success(b2.received(), IBV_WC_RECV, 5, b2);
}

TEST_F(SharedReceiveQueueTest, AFailedQueuePairSaysThatItTakesNoMore) {
  if (!quirks().tells_last_receive) GTEST_SKIP() << "this device raises no events of queue pairs";
  const auto srq = make_srq(16);
  Endpoint b{device(), {.pd = pd(), .srq = srq.get()}};
  Endpoint plain{device()};
  b.to_init();
  plain.to_init();
  ASSERT_EQ(plain.to(IBV_QPS_ERR), 0);
  ASSERT_EQ(b.to(IBV_QPS_ERR), 0);
  ASSERT_EQ(b.to(IBV_QPS_ERR), 0);
  pollfd descriptor{device().context()->async_fd, POLLIN, 0};
  ASSERT_EQ(poll(&descriptor, 1, 10'000), 1);
  ibv_async_event event{};
  ASSERT_EQ(device().get_async_event(event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_QP_LAST_WQE_REACHED);
  EXPECT_EQ(event.element.qp, b.qp());
  device().ack_async_event(event);
  EXPECT_EQ(poll(&descriptor, 1, 0), 0) << "once, and for a shared receive queue's alone";
}

TEST_F(SharedReceiveQueueTest, AReceiveOfItsOwnIsRefused) {
  const auto srq = make_srq(16);
  Endpoint b{device(), {.pd = pd(), .srq = srq.get()}};
  b.to_init();
  EXPECT_NE(b.try_post_receive({}), 0);
}

}  // namespace
}  // namespace verbena::test
