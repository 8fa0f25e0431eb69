// SPDX-License-Identifier: Apache-2.0
// What this side's device refuses, and the flush of all that stands behind a failure, on both queues.
#include <cerrno>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class LocalErrorTest : public DeviceTest {};

TEST_F(LocalErrorTest, ASendFromMemoryThatItsKeyDoesNotCoverFails) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(64);
  Buffer& into = pair.b.buffer(64);
  ibv_sge piece = from.piece();
  piece.lkey ^= 0x5a5a5a;
  pair.b.post_receive(into.piece());
  pair.a.post(send({piece}).with_id(1));
  pair.a.post(send({from.piece()}).with_id(2));
  expect_status(pair.a.sent(), quirks().bad_local_key, 1, pair.a);
  expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, 2, pair.a);
  EXPECT_EQ(pair.a.state(), IBV_QPS_ERR);
}

TEST_F(LocalErrorTest, AWriteFromBeyondItsRegionFails) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(128);
  ibv_sge piece = from.piece();
  piece.length += 1;
  pair.a.post(write({piece}, far.remote()).with_id(1));
  expect_status(pair.a.sent(), IBV_WC_LOC_PROT_ERR, 1, pair.a);
}

TEST_F(LocalErrorTest, AReadIntoMemoryThatItsKeyDoesNotCoverFails) {
  Pair pair{device()};
  Buffer& into = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(64);
  ibv_sge piece = into.piece();
  piece.lkey ^= 0x5a5a5a;
  pair.a.post(read({piece}, far.remote()).with_id(1));
  expect_status(pair.a.sent(), IBV_WC_LOC_PROT_ERR, 1, pair.a);
  EXPECT_EQ(pair.a.state(), IBV_QPS_ERR);
}

TEST_F(LocalErrorTest, AReadIntoMemoryWithoutLocalWriteFails) {
  Pair pair{device()};
  Buffer& into = pair.a.buffer(64, MemoryKind::heap, IBV_ACCESS_REMOTE_READ);
  Buffer& far = pair.b.buffer(64);
  far.fill(1);
  pair.a.post(read({into.piece()}, far.remote()).with_id(1));
  expect_status(pair.a.sent(), IBV_WC_LOC_PROT_ERR, 1, pair.a);
  EXPECT_EQ(into.word(), 0U);
}

TEST_F(LocalErrorTest, ARegionOfAnotherProtectionDomainIsRefused) {
  Pair pair{device()};
  Buffer& of_b = pair.b.buffer(64);
  pair.b.post_receive(of_b.piece());
  pair.a.post(send({of_b.piece()}).with_id(1));
  expect_status(pair.a.sent(), quirks().bad_local_key, 1, pair.a);
}

TEST_F(LocalErrorTest, AnInvalidateOfAnUnknownKeyFails) {
  Pair pair{device()};
  pair.a.post(local_invalidate(0x00abcd17).with_id(1));
  const ibv_wc completion = pair.a.sent();
  EXPECT_NE(completion.status, IBV_WC_SUCCESS);
  EXPECT_EQ(completion.wr_id, 1U);
}

TEST_F(LocalErrorTest, AnUnsignalledFailureCompletesAllTheSame) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8);
  pair.a.post(write({near.piece()}, Remote{8, 0x5a5a5a}).with_id(9).unsignalled());
  expect_status(pair.a.sent(), IBV_WC_REM_ACCESS_ERR, 9, pair.a);
}

TEST_F(LocalErrorTest, EverythingBehindAFailureIsFlushedInOrder) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(64);
  for (std::uint64_t i = 0; i < 5; ++i) {
    pair.a.post_receive(near.piece(), 100 + i);
    pair.b.post_receive(far.piece(), 200 + i);
  }
  std::vector<Work> chain;
  chain.push_back(write({near.piece()}, far.remote()).with_id(0));
  chain.push_back(write({near.piece()}, Remote{far.remote().address, 0x5a5a5a}).with_id(1));
  chain.push_back(send({near.piece()}).with_id(2));
  chain.push_back(read({near.piece()}, far.remote()).with_id(3).unsignalled());
  chain.push_back(fetch_add(near.piece(0, 8), far.remote(), 1).with_id(4));
  std::size_t bad = 0;
  ASSERT_EQ(pair.a.try_post(chain, bad), 0);

  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
  expect_status(pair.a.sent(), IBV_WC_REM_ACCESS_ERR, 1, pair.a);
  for (std::uint64_t id = 2; id <= 4; ++id) expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, id, pair.a);
  for (std::uint64_t i = 0; i < 5; ++i) {
    expect_status(pair.a.received(), IBV_WC_WR_FLUSH_ERR, 100 + i, pair.a);
    expect_status(pair.b.received(), IBV_WC_WR_FLUSH_ERR, 200 + i, pair.b);
  }
  EXPECT_TRUE(pair.a.nothing_sent());
  EXPECT_TRUE(pair.a.nothing_received());
}

TEST_F(LocalErrorTest, ModifyingToErrorFlushesBothQueues) {
  Pair pair{device(), EndpointOptions{.receiver_not_ready_retries = 7}};
  for (std::uint64_t i = 0; i < 5; ++i) {
    pair.a.post_receive(Pieces{}, 100 + i);
    pair.a.post(send({}).with_id(i));  // waits for a receive that never comes
  }
  ASSERT_EQ(pair.a.to(IBV_QPS_ERR), 0);
  for (std::uint64_t i = 0; i < 5; ++i) {
    expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, i, pair.a);
    expect_status(pair.a.received(), IBV_WC_WR_FLUSH_ERR, 100 + i, pair.a);
  }
}

TEST_F(LocalErrorTest, WhatIsSentInErrorIsFlushed) {
  Pair pair{device()};
  ASSERT_EQ(pair.a.to(IBV_QPS_ERR), 0);
  for (std::uint64_t i = 0; i < 100; ++i) {
    pair.a.post(send({}).with_id(i).unsignalled());
    expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, i, pair.a);
  }
}

TEST_F(LocalErrorTest, ReceivesPostedInErrorAreFlushed) {
  Pair pair{device()};
  ASSERT_EQ(pair.a.to(IBV_QPS_ERR), 0);
  pair.a.post_receive(Pieces{}, 1);
  if (!quirks().flushes_receives_posted_in_error) {
    EXPECT_TRUE(stays([&] { return pair.a.nothing_received(); }, std::chrono::milliseconds{20}));
    ASSERT_EQ(pair.a.to(IBV_QPS_ERR), 0);
  }
  expect_status(pair.a.received(), IBV_WC_WR_FLUSH_ERR, 1, pair.a);
}

TEST_F(LocalErrorTest, RegistrationRefusesRemoteWriteWithoutLocalWrite) {
  Endpoint endpoint{device()};
  std::array<std::byte, 64> memory{};
  EXPECT_EQ(device().reg_mr(endpoint.pd(), memory.data(), memory.size(), IBV_ACCESS_REMOTE_WRITE), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(device().reg_mr(endpoint.pd(), memory.data(), memory.size(), IBV_ACCESS_REMOTE_ATOMIC), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

}  // namespace
}  // namespace verbena::test
