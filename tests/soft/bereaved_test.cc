// SPDX-License-Identifier: Apache-2.0
// A peer's death as programs that were written for hardware are to see it: PeerDeath::after_timeout.
#include <chrono>

#include "core/soft/soft_device.h"
#include "device/device_test.h"
#include "device/remote_process.h"

namespace verbena::test {
namespace {

using std::chrono::steady_clock;

class BereavedTest : public testing::Test {
 protected:
  /// (retries + 1) × 4.096 µs × 2^ack_timeout_exponent, of EndpointOptions.
  static constexpr std::chrono::milliseconds timeout{67};

  core::Device& device() { return *device_; }

 private:
  std::unique_ptr<core::Device> device_ = core::open_soft_device(core::PeerDeath::after_timeout);
};

TEST_F(BereavedTest, AnIdleQueuePairStaysAsItIsForAsLongAsADeviceWouldTry) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::heap, 4096}};
  Endpoint& endpoint = peer.endpoint();
  endpoint.post_receive(endpoint.buffer(8).piece(), 5);
  const auto before = steady_clock::now();
  peer.kill();
  expect_status(endpoint.received(), IBV_WC_WR_FLUSH_ERR, 5, endpoint);
  EXPECT_GE(steady_clock::now() - before, timeout);
}

TEST_F(BereavedTest, WhatWaitsForTheDeadFailsAtOnce) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::heap, 4096}};
  Endpoint& endpoint = peer.endpoint();
  endpoint.post(send({}).with_id(3));  // there is no receive for it
  peer.kill();
  expect_status(endpoint.sent(), IBV_WC_RETRY_EXC_ERR, 3, endpoint);
}

TEST_F(BereavedTest, WhatIsPostedToTheDeadFailsAtOnce) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::heap, 4096}};
  Endpoint& endpoint = peer.endpoint();
  const auto before = steady_clock::now();
  peer.kill();
  endpoint.post(send({}).with_id(3));
  expect_status(endpoint.sent(), IBV_WC_RETRY_EXC_ERR, 3, endpoint);
  EXPECT_LT(steady_clock::now() - before, std::chrono::seconds{5});
}

TEST_F(BereavedTest, AResetForgetsTheDead) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::heap, 4096}};
  Endpoint& endpoint = peer.endpoint();
  peer.kill();
  ASSERT_EQ(endpoint.to(IBV_QPS_RESET), 0);
  EXPECT_TRUE(
      stays([&] { return endpoint.state() == IBV_QPS_RESET && endpoint.nothing_received(); }, 2 * timeout));
}

}  // namespace
}  // namespace verbena::test
