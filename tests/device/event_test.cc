// SPDX-License-Identifier: Apache-2.0
// Completion channels: an event for an armed queue, none that is lost, spurious ones allowed.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <exception>
#include <thread>

#include "device/device_test.h"
#include "support/child.h"
#include "support/sleeper.h"

namespace verbena::test {
namespace {

class EventTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pair_.emplace(device());
    for (int i = 0; i < 8; ++i) b().post_receive(Pieces{});
    const int descriptor = b().channel()->fd;
    ASSERT_EQ(fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK), 0);
  }

  void arm(bool solicited_only = false) {
    ASSERT_EQ(ibv_req_notify_cq(b().receive_cq(), solicited_only ? 1 : 0), 0);
  }

  /// Takes and acknowledges an event, if one comes within the time. The descriptor may be readable without
  /// one, but not for long: a program that sleeps on it would spin.
  bool take_event(int milliseconds) {
    pollfd descriptor{b().channel()->fd, POLLIN, 0};
    bool taken = false;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{milliseconds};
    do {
      poll(&descriptor, 1, milliseconds);
      taken = try_take_event();
    } while (!taken && std::chrono::steady_clock::now() < end);
    if (!taken) {
      EXPECT_EQ(poll(&descriptor, 1, 0), 0) << "the descriptor is readable although no event waits";
    }
    return taken;
  }

  bool try_take_event() {
    ibv_cq* cq = nullptr;
    void* cq_context = nullptr;
    if (device().get_cq_event(b().channel(), &cq, &cq_context) != 0) {
      EXPECT_EQ(errno, EAGAIN);
      return false;
    }
    EXPECT_EQ(cq, b().receive_cq());
    EXPECT_EQ(cq_context, &b());
    device().ack_cq_events(cq, 1);
    return true;
  }

  /// Sends, and takes the receive completion: an event, if any, has been raised by then.
  void send_and_receive(const Work& work) {
    a().post(work);
    expect_success(a().sent(), IBV_WC_SEND, 0, a());
    expect_success(b().received(), IBV_WC_RECV, 0, b());
    b().post_receive(Pieces{});
  }

  Endpoint& a() { return pair_->a; }
  Endpoint& b() { return pair_->b; }

 private:
  std::optional<Pair> pair_;
};

constexpr int long_enough = 10'000;  // ms
constexpr int at_once = 0;

TEST_F(EventTest, AnArmedQueueRaisesAnEventInEpoll) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event interest{EPOLLIN, {}};
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, b().channel()->fd, &interest), 0);
  arm();
  a().post(send({}));
  epoll_event event{};
  EXPECT_EQ(epoll_wait(epoll, &event, 1, long_enough), 1);
  EXPECT_TRUE(take_event(long_enough));
  expect_success(b().received(), IBV_WC_RECV, 0, b());
  EXPECT_FALSE(take_event(at_once));
  EXPECT_EQ(epoll_wait(epoll, &event, 1, at_once), 0);
  close(epoll);
}

TEST_F(EventTest, AnUnarmedQueueRaisesNone) {
  EXPECT_FALSE(take_event(at_once));
  send_and_receive(send({}));
  EXPECT_FALSE(take_event(at_once));
}

TEST_F(EventTest, ArmingIsForOneEvent) {
  arm();
  send_and_receive(send({}));
  EXPECT_TRUE(take_event(long_enough));
  send_and_receive(send({}));
  EXPECT_FALSE(take_event(at_once));
}

TEST_F(EventTest, ArmingTwiceIsArmingOnce) {
  arm();
  arm();
  send_and_receive(send({}));
  EXPECT_TRUE(take_event(long_enough));
  EXPECT_FALSE(take_event(at_once));
}

TEST_F(EventTest, SolicitedOnlySleepsThroughTheUnsolicited) {
  arm(true);
  send_and_receive(send({}));
  EXPECT_FALSE(take_event(at_once));
  send_and_receive(send({}).solicited());
  EXPECT_TRUE(take_event(long_enough));
}

TEST_F(EventTest, AFailureCountsAsSolicited) {
  arm(true);
  ASSERT_EQ(b().to(IBV_QPS_ERR), 0);
  expect_status(b().received(), IBV_WC_WR_FLUSH_ERR, 0, b());
  EXPECT_TRUE(take_event(long_enough));
}

TEST_F(EventTest, ASendCompletionRaisesAnEventToo) {
  Endpoint peer{device()};
  // Its sends complete on its receive queue's channel, as a loop's do.
  ibv_cq* queue = peer.receive_cq();
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.send_cq = queue;
  init.recv_cq = queue;
  init.cap = {8, 8, 1, 1, 0};
  const core::Handle<ibv_qp> qp{device(), device().create_qp(peer.pd(), init)};
  ASSERT_TRUE(qp);
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  ASSERT_EQ(device().modify_qp(qp.get(), attr,
                               IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS),
            0);
  attr.qp_state = IBV_QPS_ERR;
  ASSERT_EQ(device().modify_qp(qp.get(), attr, IBV_QP_STATE), 0);
  ASSERT_EQ(ibv_req_notify_cq(queue, 0), 0);
  ibv_send_wr request{};
  request.opcode = IBV_WR_SEND;
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_send(qp.get(), &request, &bad), 0);
  pollfd descriptor{peer.channel()->fd, POLLIN, 0};
  EXPECT_EQ(poll(&descriptor, 1, long_enough), 1);
  EXPECT_EQ(peer.received().status, IBV_WC_WR_FLUSH_ERR);
  ibv_cq* raised = nullptr;
  void* cq_context = nullptr;
  ASSERT_EQ(device().get_cq_event(peer.channel(), &raised, &cq_context), 0);
  EXPECT_EQ(raised, queue);
  device().ack_cq_events(raised, 1);
}

TEST_F(EventTest, CompletionsFromBeforeArmingAreFoundByPollingAgain) {
  a().post(send({}));
  expect_success(a().sent(), IBV_WC_SEND, 0, a());
  arm();
  expect_success(b().received(), IBV_WC_RECV, 0, b());  // whether or not there is an event
}

TEST_F(EventTest, NoWakeUpIsLostBetweenTwoThreads) {
  Pair pair{device()};
  std::exception_ptr failure;
  std::thread other{[&] {
    try {
      answer_sleeping(pair.b, quirks().wake_ups / 2);
    } catch (...) {
      failure = std::current_exception();
    }
  }};
  std::exception_ptr own_failure;
  try {
    ask_sleeping(pair.a, quirks().wake_ups / 2);
  } catch (...) {
    own_failure = std::current_exception();
  }
  other.join();
  if (own_failure) std::rethrow_exception(own_failure);
  if (failure) std::rethrow_exception(failure);
}

const Role answering_sleeper{
    "answering sleeper", [](Line& parent) {
      const auto device = open_test_device();
      Endpoint endpoint{*device};
      parent.put(endpoint.facts());
      endpoint.connect(parent.get<EndpointFacts>());
      parent.put('r');
      answer_sleeping(endpoint, quirks().wake_ups / 2);
      parent.get<char>();  // the last answer must reach the other side before this queue pair goes
    }};

TEST_F(EventTest, NoWakeUpIsLostBetweenTwoProcesses) {
  Child child{"answering sleeper"};
  Endpoint endpoint{device()};
  child.line().put(endpoint.facts());
  endpoint.connect(child.line().get<EndpointFacts>());
  child.line().get<char>();
  ask_sleeping(endpoint, quirks().wake_ups / 2);
  child.line().put('.');
  EXPECT_EQ(child.join(), 0);
}

}  // namespace
}  // namespace verbena::test
