// SPDX-License-Identifier: Apache-2.0
// Completion queues that get another length, and those that were too short.
#include <poll.h>

#include <cerrno>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class ResizeTest : public DeviceTest {
 protected:
  /// `count` completions that nobody has polled, with ids from `first` on.
  static void leave_completions(Pair& pair, std::uint64_t first, std::uint64_t count) {
    Buffer& near = pair.a.buffer(8);
    Buffer& far = pair.b.buffer(8);
    for (std::uint64_t id = first; id < first + count; ++id)
      pair.a.post(write({near.piece()}, far.remote()).with_id(id));
  }
  static void expect_completions(Pair& pair, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t id = first; id < first + count; ++id)
      expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, id, pair.a);
  }
};

TEST_F(ResizeTest, WhatWaitsInTheQueueKeepsItsOrder) {
  Pair pair{device(), EndpointOptions{.send_depth = 64, .completions = 24}};
  leave_completions(pair, 0, 20);
  expect_completions(pair, 0, 10);  // so that what is left doesn't begin at the ring's first place
  leave_completions(pair, 20, 10);
  ASSERT_EQ(device().resize_cq(pair.a.send_cq(), 100), 0);
  EXPECT_GE(pair.a.send_cq()->cqe, 100);
  leave_completions(pair, 30, 30);
  expect_completions(pair, 10, 50);
  ASSERT_EQ(device().resize_cq(pair.a.send_cq(), 4), 0);
  leave_completions(pair, 60, 3);
  expect_completions(pair, 60, 3);
}

TEST_F(ResizeTest, AQueueDoesNotBecomeShorterThanWhatWaitsInIt) {
  Pair pair{device(), EndpointOptions{.send_depth = 64, .completions = 64}};
  leave_completions(pair, 0, 40);
  // They come one after the other: sooner or later there are more than four.
  wait_until("so short a queue to be refused", [&] {
    const int error = device().resize_cq(pair.a.send_cq(), 4);
    EXPECT_TRUE(error == 0 || error == EINVAL) << error;
    if (error == 0) device().resize_cq(pair.a.send_cq(), 64);
    return error == EINVAL;
  });
  expect_completions(pair, 0, 40);
}

TEST_F(ResizeTest, LengthsThatTheDeviceDoesNotHaveAreRefused) {
  ibv_device_attr attr{};
  ASSERT_EQ(device().query_device(attr), 0);
  Endpoint endpoint{device()};
  EXPECT_EQ(device().resize_cq(endpoint.send_cq(), 0), EINVAL);
  EXPECT_EQ(device().resize_cq(endpoint.send_cq(), attr.max_cqe + 1), EINVAL);
}

TEST_F(ResizeTest, AnOverrunIsTold) {
  Pair pair{device(), EndpointOptions{.send_depth = 512, .completions = 4}};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8);
  constexpr std::uint64_t many = 300;  // more than any rounding up of four entries
  std::uint64_t posted = 0;
  while (posted < many && pair.a.try_post(write({near.piece()}, far.remote()).with_id(posted)) == 0) ++posted;
  pollfd readable{device().context()->async_fd, POLLIN, 0};
  ASSERT_EQ(poll(&readable, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())), 1);
  ibv_async_event event{};
  ASSERT_EQ(device().get_async_event(event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_CQ_ERR);
  EXPECT_EQ(event.element.cq, pair.a.send_cq());
  device().ack_async_event(event);
  if (!quirks().keeps_what_overruns) return;
  expect_completions(pair, 0, posted);
}

}  // namespace
}  // namespace verbena::test
