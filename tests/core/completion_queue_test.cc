// SPDX-License-Identifier: Apache-2.0
#include "core/completion_queue.h"

#include <poll.h>

#include <array>

#include "core/error.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

class CompletionQueueTest : public DeviceTest {};

TEST_F(CompletionQueueTest, ABatchIsPolledAtOnce) {
  core::CompletionQueue queue{device(), 64};
  Endpoint b{device(), EndpointOptions{.receive_cq = queue.get()}};
  Endpoint a{device()};
  connect(a, b);
  for (std::uint64_t i = 0; i < 10; ++i) b.post_receive(Pieces{}, i);
  for (std::uint64_t i = 0; i < 10; ++i) {
    a.post(send({}));
    expect_success(a.sent(), IBV_WC_SEND, 0, a);
  }
  std::array<ibv_wc, 16> batch{};
  std::uint64_t next = 0;
  wait_until("ten completions", [&] {
    const int count = queue.poll(batch);
    for (int i = 0; i < count; ++i) EXPECT_EQ(batch.at(static_cast<std::size_t>(i)).wr_id, next++);
    return next == 10;
  });
  EXPECT_EQ(queue.poll(batch), 0);
}

TEST_F(CompletionQueueTest, ArmingRaisesOneEventThatIsConsumed) {
  core::CompletionQueue queue{device(), 64};
  Endpoint b{device(), EndpointOptions{.receive_cq = queue.get()}};
  Endpoint a{device()};
  connect(a, b);
  EXPECT_FALSE(queue.consume_events());
  b.post_receive(Pieces{});
  ASSERT_EQ(queue.arm(), 0);
  a.post(send({}));
  pollfd descriptor{queue.descriptor(), POLLIN, 0};
  ASSERT_EQ(poll(&descriptor, 1, 10'000), 1);
  EXPECT_TRUE(queue.consume_events());
  EXPECT_FALSE(queue.consume_events());
}

TEST_F(CompletionQueueTest, IsAtLeastAsDeepAsAskedFor) {
  const core::CompletionQueue queue{device(), 100};
  EXPECT_GE(queue.depth(), 100);
}

TEST_F(CompletionQueueTest, OneDeeperThanTheDeviceAllowsNamesItsDepth) {
  ibv_device_attr attr{};
  ASSERT_EQ(device().query_device(attr), 0);
  try {
    const core::CompletionQueue queue{device(), attr.max_cqe + 1};
    FAIL() << "it was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), errc::invalid_argument);
    EXPECT_NE(std::string{error.what()}.find(std::to_string(attr.max_cqe + 1)), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace verbena::test
