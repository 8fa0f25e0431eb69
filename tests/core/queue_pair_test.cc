// SPDX-License-Identifier: Apache-2.0
#include "core/queue_pair.h"

#include "core/completion_queue.h"
#include "core/error.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

using core::QueuePair;

class QueuePairTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pd_ = {device(), device().alloc_pd()};
    ASSERT_TRUE(pd_);
    queue_.emplace(device(), 256);
  }

  QueuePair make() {
    return {device(), pd_.get(), queue_->get(), queue_->get(), nullptr, {.receive_depth = 16}};
  }

  void post_receive(QueuePair& queue_pair, std::uint64_t id) {
    ibv_recv_wr request{};
    request.wr_id = id;
    ibv_recv_wr* bad = nullptr;
    ASSERT_EQ(ibv_post_recv(queue_pair.get(), &request, &bad), 0);
  }

  void post_send(QueuePair& queue_pair, std::uint64_t id) {
    ibv_send_wr request{};
    request.wr_id = id;
    request.opcode = IBV_WR_SEND;
    request.send_flags = IBV_SEND_SIGNALED;
    ibv_send_wr* bad = nullptr;
    ASSERT_EQ(ibv_post_send(queue_pair.get(), &request, &bad), 0);
  }

  ibv_wc next() {
    ibv_wc completion{};
    wait_until("a completion", [&] { return queue_->poll({&completion, 1}) == 1; });
    return completion;
  }

  /// One empty message each way.
  void expect_alive(QueuePair& a, QueuePair& b) {
    post_receive(b, 1);
    post_send(a, 2);
    std::uint64_t ids = 0;
    for (int i = 0; i < 2; ++i) {
      const ibv_wc completion = next();
      EXPECT_EQ(name_of(completion.status), name_of(IBV_WC_SUCCESS));
      ids += completion.wr_id;
    }
    EXPECT_EQ(ids, 3U);
  }

 private:
  core::Handle<ibv_pd> pd_;
  std::optional<core::CompletionQueue> queue_;
};

void connect(QueuePair& a, QueuePair& b) {
  a.bring_up(b.facts());
  b.bring_up(a.facts());
}

TEST_F(QueuePairTest, TwoThatKnowEachOthersFactsTalk) {
  QueuePair a = make();
  QueuePair b = make();
  EXPECT_EQ(a.state(), IBV_QPS_INIT);
  connect(a, b);
  EXPECT_EQ(a.state(), IBV_QPS_RTS);
  expect_alive(a, b);
  expect_alive(b, a);
}

TEST_F(QueuePairTest, FactsAreWhatThePeerNeeds) {
  const QueuePair a = make();
  EXPECT_EQ(a.facts().qp_number, a.get()->qp_num);
  EXPECT_LT(a.facts().packet_sequence, 1U << 24);
  EXPECT_GE(a.facts().mtu, IBV_MTU_1024);
  EXPECT_GT(a.facts().reads_accepted, 0);
  EXPECT_GE(a.inline_size(), core::QueuePairOptions{}.inline_size);
}

TEST_F(QueuePairTest, BringingUpTwiceIsAProgrammersMistake) {
  QueuePair a = make();
  QueuePair b = make();
  connect(a, b);
  try {
    a.bring_up(b.facts());
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), errc::invalid_state);
    EXPECT_NE(std::string{error.what()}.find("from RTS to RTR"), std::string::npos) << error.what();
  }
}

TEST_F(QueuePairTest, FailingFlushesInEveryStateAndTwice) {
  QueuePair a = make();
  post_receive(a, 5);
  a.fail();
  a.fail();
  EXPECT_EQ(a.state(), IBV_QPS_ERR);
  const ibv_wc completion = next();
  EXPECT_EQ(completion.wr_id, 5U);
  EXPECT_EQ(name_of(completion.status), name_of(IBV_WC_WR_FLUSH_ERR));
}

TEST_F(QueuePairTest, ARecycledOneConnectsToAnotherPeer) {
  QueuePair a = make();
  {
    QueuePair b = make();
    connect(a, b);
    expect_alive(a, b);
  }
  a.fail();
  const std::uint32_t sequence = a.facts().packet_sequence;
  a.recycle();
  EXPECT_EQ(a.state(), IBV_QPS_INIT);
  EXPECT_NE(a.facts().packet_sequence, sequence);
  QueuePair c = make();
  connect(a, c);
  expect_alive(a, c);
  expect_alive(c, a);
}

}  // namespace
}  // namespace verbena::test
