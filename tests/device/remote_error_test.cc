// SPDX-License-Identifier: Apache-2.0
// What the peer's side refuses or doesn't answer: each error's status on both sides, and that nothing is
// touched.
#include <cerrno>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class RemoteErrorTest : public DeviceTest {
 protected:
  /// `a` posts `work`, which must fail with `status` and take both queue pairs with it.
  static void expect_failure(Pair& pair, Work work, ibv_wc_status status) {
    pair.b.post_receive(Pieces{}, 33);
    pair.a.post(std::move(work).with_id(5));
    expect_status(pair.a.sent(), status, 5, pair.a);
    EXPECT_EQ(pair.a.state(), IBV_QPS_ERR);
    expect_status(pair.b.received(), IBV_WC_WR_FLUSH_ERR, 33, pair.b);
    EXPECT_EQ(pair.b.state(), IBV_QPS_ERR);
  }

  /// The same for a write of 64 bytes to `remote`, which is in or near `far`: `far` stays as it is.
  static void expect_refused_write(Pair& pair, Buffer& far, Remote remote) {
    Buffer& near = pair.a.buffer(64);
    near.fill(0xbb);
    far.fill(0x44);
    expect_failure(pair, write({near.piece()}, remote), IBV_WC_REM_ACCESS_ERR);
    for (const std::byte byte : far.bytes()) ASSERT_EQ(byte, std::byte{0x44});
  }
};

TEST_F(RemoteErrorTest, AnUnknownKeyIsRefused) {
  Pair pair{device()};
  Buffer& far = pair.b.buffer(64);
  const Remote remote = far.remote();
  expect_refused_write(pair, far, {remote.address, remote.rkey ^ 0x5a5a5a});
}

TEST_F(RemoteErrorTest, ARefusalIsOneAlsoWhereThePeerIsSeenToHaveFailedFirst) {
  Pair pair{device()};
  const Remote remote = pair.b.buffer(64).remote();
  pair.b.post_receive(Pieces{}, 33);
  pair.a.post(write({pair.a.buffer(64).piece()}, {remote.address, remote.rkey ^ 0x5a5a5a}).with_id(5));
  expect_status(pair.b.received(), IBV_WC_WR_FLUSH_ERR, 33, pair.b);
  expect_status(pair.a.sent(), IBV_WC_REM_ACCESS_ERR, 5, pair.a);
}

TEST_F(RemoteErrorTest, ARangeBeyondTheEndIsRefused) {
  Pair pair{device()};
  Buffer& far = pair.b.buffer(256);
  expect_refused_write(pair, far, far.remote(256 - 63));
}

TEST_F(RemoteErrorTest, ARangeBeforeTheStartIsRefused) {
  Pair pair{device()};
  Buffer& far = pair.b.buffer(256);
  const Remote remote = far.remote();
  expect_refused_write(pair, far, {remote.address - 1, remote.rkey});
}

TEST_F(RemoteErrorTest, ARangeThatWrapsAroundIsRefused) {
  Pair pair{device()};
  Buffer& far = pair.b.buffer(256);
  expect_refused_write(pair, far, {~std::uint64_t{0} - 15, far.remote().rkey});
}

TEST_F(RemoteErrorTest, ARegionOfAnotherProtectionDomainIsRefused) {
  Pair pair{device()};
  Endpoint other{device()};
  Buffer& far = other.buffer(64);
  expect_refused_write(pair, far, far.remote());
}

TEST_F(RemoteErrorTest, AWriteWithoutTheRightIsRefused) {
  Pair pair{device()};
  Buffer& far = pair.b.buffer(64, MemoryKind::heap, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
  expect_refused_write(pair, far, far.remote());
}

TEST_F(RemoteErrorTest, AReadWithoutTheRightIsRefused) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(64, MemoryKind::heap, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  far.fill(0x77);
  expect_failure(pair, read({near.piece()}, far.remote()), IBV_WC_REM_ACCESS_ERR);
  for (const std::byte byte : near.bytes()) ASSERT_EQ(byte, std::byte{0});
}

TEST_F(RemoteErrorTest, AnAtomicWithoutTheRightIsRefused) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8, MemoryKind::heap, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  expect_failure(pair, fetch_add(near.piece(), far.remote(), 1), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(far.word(), 0U);
}

TEST_F(RemoteErrorTest, AnUnalignedAtomicIsRefused) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(64);
  const Work work = fetch_add(near.piece(), far.remote(4), 1);
  if (quirks().refuses_unaligned_atomic_when_posted) {
    EXPECT_EQ(pair.a.try_post(work), EINVAL);
  } else {
    expect_failure(pair, work, IBV_WC_REM_INV_REQ_ERR);
  }
}

TEST_F(RemoteErrorTest, ADeregisteredKeyIsRefused) {
  Pair pair{device()};
  Buffer& far = pair.b.buffer(64);
  const Remote remote = far.remote();
  ASSERT_EQ(far.deregister(), 0);
  expect_refused_write(pair, far, remote);
}

TEST_F(RemoteErrorTest, AQueuePairThatAllowsNoWritesRefusesThem) {
  Pair pair{device(), {}, EndpointOptions{.access = 0}};
  Buffer& near = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(64);
  expect_failure(pair, write({near.piece()}, far.remote()), IBV_WC_REM_INV_REQ_ERR);
}

TEST_F(RemoteErrorTest, AMessageLongerThanItsReceiveFailsOnBothSides) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(64);
  Buffer& into = pair.b.buffer(64);
  from.fill(0xcc);
  pair.b.post_receive(into.piece(0, 16), 1);
  pair.b.post_receive(into.piece(), 2);
  pair.a.post(send({from.piece()}).with_id(3));
  expect_status(pair.a.sent(), quirks().sender_of_too_long_message, 3, pair.a);
  expect_status(pair.b.received(), quirks().message_longer_than_receive, 1, pair.b);
  expect_status(pair.b.received(), IBV_WC_WR_FLUSH_ERR, 2, pair.b);
  for (const std::byte byte : into.bytes(16, 48)) ASSERT_EQ(byte, std::byte{0});
}

TEST_F(RemoteErrorTest, AReceiveInMemoryThatItsKeyDoesNotCoverFailsOnBothSides) {
  Pair pair{device()};
  Buffer& from = pair.a.buffer(64);
  Buffer& into = pair.b.buffer(64);
  ibv_sge piece = into.piece();
  piece.lkey ^= 0x5a5a5a;
  pair.b.post_receive(piece, 1);
  pair.a.post(send({from.piece()}).with_id(3));
  expect_status(pair.a.sent(), IBV_WC_REM_OP_ERR, 3, pair.a);
  expect_status(pair.b.received(), quirks().bad_local_key, 1, pair.b);
}

TEST_F(RemoteErrorTest, AReceivePostedInTimeAfterRetriesIsUsed) {
  Pair pair{device(), EndpointOptions{.receiver_not_ready_retries = 7}};
  Buffer& from = pair.a.buffer(64);
  Buffer& inbox = pair.b.buffer(64);
  Buffer& into = pair.b.buffer(64);
  from.fill(0xdd);
  pair.a.post(send({from.piece()}).with_id(1));
  pair.a.post(write({from.piece()}, into.remote()).with_id(2));
  EXPECT_TRUE(stays([&] { return pair.a.nothing_sent(); }, std::chrono::milliseconds{20}));
  EXPECT_EQ(into.word(), 0U) << "what stands behind must wait";
  pair.b.post_receive(inbox.piece(), 4);
  expect_success(pair.a.sent(), IBV_WC_SEND, 1, pair.a);
  expect_success(pair.b.received(), IBV_WC_RECV, 4, pair.b);
  expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 2, pair.a);
  expect_equal(inbox.bytes(), from.bytes());
  expect_equal(into.bytes(), from.bytes());
}

TEST_F(RemoteErrorTest, WithoutAReceiveTheRetriesEnd) {
  for (const bool with_write : {false, true}) {
    Pair pair{device(), EndpointOptions{.receiver_not_ready_retries = 2}};
    Buffer& far = pair.b.buffer(8);
    Buffer& near = pair.a.buffer(8);
    near.set_word(1);
    Work work = with_write ? write_with_imm({near.piece()}, far.remote(), 1) : send({near.piece()});
    pair.a.post(std::move(work).with_id(1));
    pair.a.post(send({}).with_id(2));
    expect_status(pair.a.sent(), IBV_WC_RNR_RETRY_EXC_ERR, 1, pair.a);
    expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, 2, pair.a);
    EXPECT_EQ(pair.a.state(), IBV_QPS_ERR);
  }
}

TEST_F(RemoteErrorTest, APeerInResetIsRetriedAndGivenUp) {
  Pair pair{device()};
  ASSERT_EQ(pair.b.to(IBV_QPS_RESET), 0);
  pair.a.post(send({}).with_id(1));
  expect_status(pair.a.sent(), IBV_WC_RETRY_EXC_ERR, 1, pair.a);
  EXPECT_EQ(pair.a.state(), IBV_QPS_ERR);
}

TEST_F(RemoteErrorTest, APeerInErrorIsRetriedAndGivenUp) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8);
  near.set_word(1);
  ASSERT_EQ(pair.b.to(IBV_QPS_ERR), 0);
  pair.a.post(write({near.piece()}, far.remote()).with_id(1));
  expect_status(pair.a.sent(), IBV_WC_RETRY_EXC_ERR, 1, pair.a);
  EXPECT_EQ(far.word(), 0U);
}

TEST_F(RemoteErrorTest, ADestroyedPeerIsRetriedAndGivenUp) {
  Pair pair{device()};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8);
  pair.b.destroy_queue_pair();
  pair.a.post(read({near.piece()}, far.remote()).with_id(1));
  pair.a.post(send({}).with_id(2));
  expect_status(pair.a.sent(), IBV_WC_RETRY_EXC_ERR, 1, pair.a);
  expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, 2, pair.a);
}

}  // namespace
}  // namespace verbena::test
