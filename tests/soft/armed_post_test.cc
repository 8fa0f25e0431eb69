// SPDX-License-Identifier: Apache-2.0
// Posting for a user who sleeps: what is done in the post itself raises its event there, not when the agent
// comes by.
#include <poll.h>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class ArmedPostTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pair_.emplace(device());
    near_ = &pair_->a.buffer(64);
    far_ = &pair_->b.buffer(64);
    pair_->a.post(read({near_->piece()}, far_->remote()));  // the link is up from now on
    expect_success(pair_->a.sent(), IBV_WC_RDMA_READ, 0, pair_->a);
  }

  void arm() { ASSERT_EQ(ibv_req_notify_cq(a().send_cq(), 0), 0); }
  bool is_readable() {
    pollfd descriptor{a().channel()->fd, POLLIN, 0};
    return poll(&descriptor, 1, 0) == 1;
  }
  void expect_event_now() {
    ASSERT_TRUE(is_readable()) << "the event is left to the agent";
    ibv_cq* cq = nullptr;
    void* cq_context = nullptr;
    ASSERT_EQ(device().get_cq_event(a().channel(), &cq, &cq_context), 0);
    EXPECT_EQ(cq, a().send_cq());
    device().ack_cq_events(cq, 1);
  }

  Endpoint& a() { return pair_->a; }
  Endpoint& b() { return pair_->b; }
  Buffer& near() { return *near_; }
  Buffer& far() { return *far_; }

 private:
  std::optional<Pair> pair_;
  Buffer* near_ = nullptr;
  Buffer* far_ = nullptr;
};

TEST_F(ArmedPostTest, AReadThatIsDoneInItsPostRaisesItsEventThere) {
  arm();
  EXPECT_FALSE(is_readable());
  a().post(read({near().piece()}, far().remote()).with_id(3));
  expect_event_now();
  expect_success(a().sent(), IBV_WC_RDMA_READ, 3, a());
}

TEST_F(ArmedPostTest, SoDoesOneBehindAnotherThatNobodyIsToldOf) {
  arm();
  a().post(read({near().piece()}, far().remote()).unsignalled());
  EXPECT_FALSE(is_readable());
  a().post(fetch_add(near().piece(0, 8), far().remote(), 1).with_id(4));
  expect_event_now();
  expect_success(a().sent(), IBV_WC_FETCH_ADD, 4, a());
}

TEST_F(ArmedPostTest, ASendRaisesItsEventWhenThePeerTakesIt) {
  arm();
  a().post(send({near().piece()}).with_id(5));
  EXPECT_FALSE(is_readable());
  b().post_receive(far().piece());
  expect_success(b().received(), IBV_WC_RECV, 0, b());
  expect_event_now();
  expect_success(a().sent(), IBV_WC_SEND, 5, a());
}

TEST_F(ArmedPostTest, ADatagramIsDoneInItsPost) {
  Endpoint sender{device(), {.type = IBV_QPT_UD}};
  sender.connect(sender.facts());
  ibv_ah_attr attr{};
  attr.port_num = 1;
  attr.is_global = 1;
  attr.grh.dgid = sender.facts().gid;
  const core::Handle<ibv_ah> here{device(), device().create_ah(sender.pd(), attr)};
  ASSERT_TRUE(here);
  ASSERT_EQ(ibv_req_notify_cq(sender.send_cq(), 0), 0);
  sender.post(send({}).towards(here.get(), sender.number(), datagram_key + 1).with_id(6));
  pollfd descriptor{sender.channel()->fd, POLLIN, 0};
  EXPECT_EQ(poll(&descriptor, 1, 0), 1);
  expect_success(sender.sent(), IBV_WC_SEND, 6, sender);
  ibv_cq* cq = nullptr;
  void* cq_context = nullptr;
  ASSERT_EQ(device().get_cq_event(sender.channel(), &cq, &cq_context), 0);
  device().ack_cq_events(cq, 1);
}

}  // namespace
}  // namespace verbena::test
