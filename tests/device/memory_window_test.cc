// SPDX-License-Identifier: Apache-2.0
// Type-2 memory windows: bound and invalidated through a queue pair, they are how memory is lent for one
// call.
#include "device/device_test.h"

namespace verbena::test {
namespace {

constexpr unsigned int remote_read_write = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;

/// `b` lends its memory through a window; `a` uses it.
class MemoryWindowTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pair_.emplace(device());
    near_ = &a().buffer(1024);
    far_ = &b().buffer(4096);
    near_->fill(0xaa);
    window_ = make_window();
  }

  core::Handle<ibv_mw> make_window() {
    ibv_mw* window = device().alloc_mw(b().pd(), IBV_MW_TYPE_2);
    if (window == nullptr) throw std::system_error(errno, std::generic_category(), "allocating a window");
    return {device(), window};
  }

  /// Binds the window under its next key; the key.
  std::uint32_t lend(std::size_t offset, std::size_t length, unsigned int access = remote_read_write) {
    const std::uint32_t key = ibv_inc_rkey(window_->rkey);
    b().post(bind(window_.get(), key, *far_, offset, length, access).with_id(1));
    expect_success(b().sent(), IBV_WC_BIND_MW, 1, b());
    window_->rkey = key;
    return key;
  }

  void revoke(std::uint32_t key) {
    b().post(local_invalidate(key).with_id(2));
    expect_success(b().sent(), IBV_WC_LOCAL_INV, 2, b());
  }

  Remote through(std::uint32_t key, std::size_t offset) const { return {far_->remote(offset).address, key}; }

  void expect_write(Remote remote, ibv_wc_status status, std::size_t length = 16) {
    a().post(write({near_->piece(0, length)}, remote).with_id(3));
    expect_status(a().sent(), status, 3, a());
  }

  Endpoint& a() { return pair_->a; }
  Endpoint& b() { return pair_->b; }
  Buffer& near() { return *near_; }
  Buffer& far() { return *far_; }
  ibv_mw* window() { return window_.get(); }

 private:
  std::optional<Pair> pair_;
  Buffer* near_ = nullptr;
  Buffer* far_ = nullptr;
  // Behind the pair: a window goes before its queue pair, which on rxe would else wait for it for a minute.
  core::Handle<ibv_mw> window_;
};

TEST_F(MemoryWindowTest, ABoundWindowCanBeWrittenReadAndCountedIn) {
  const std::uint32_t key = lend(1024, 1024, remote_read_write | IBV_ACCESS_REMOTE_ATOMIC);
  expect_write(through(key, 1024), IBV_WC_SUCCESS, 1024);
  expect_equal(far().bytes(1024, 1024), near().bytes());
  far().fill(0x11);
  a().post(read({near().piece()}, through(key, 1024)));
  expect_success(a().sent(), IBV_WC_RDMA_READ, 0, a());
  expect_equal(near().bytes(), far().bytes(1024, 1024));
  far().set_word(5, 2000);
  a().post(fetch_add(near().piece(0, 8), through(key, 2000), 3));
  expect_success(a().sent(), IBV_WC_FETCH_ADD, 0, a());
  EXPECT_EQ(far().word(2000), 8U);
}

TEST_F(MemoryWindowTest, AnUnboundWindowOpensNothing) {
  expect_write(through(window()->rkey, 0), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(far().word(), 0U);
}

TEST_F(MemoryWindowTest, ALocalInvalidateRevokesIt) {
  const std::uint32_t key = lend(0, 1024);
  expect_write(through(key, 0), IBV_WC_SUCCESS);
  revoke(key);
  far().fill(0);
  expect_write(through(key, 0), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(far().word(), 0U);
}

TEST_F(MemoryWindowTest, ASendWithInvalidateRevokesItAndTellsTheOwner) {
  const std::uint32_t key = lend(0, 1024);
  b().post_receive(Pieces{}, 17);
  a().post(send_with_invalidate({}, key).with_id(4));
  expect_success(a().sent(), IBV_WC_SEND, 4, a());
  const ibv_wc received = b().received();
  expect_success(received, IBV_WC_RECV, 17, b());
  if (quirks().tells_invalidated_key) {
    EXPECT_NE(received.wc_flags & IBV_WC_WITH_INV, 0U);
    EXPECT_EQ(received.invalidated_rkey, key);
  }
  expect_write(through(key, 0), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(far().word(), 0U);
}

TEST_F(MemoryWindowTest, ARevokedWindowCanBeBoundAnewUnderANewKey) {
  const std::uint32_t first = lend(0, 64);
  revoke(first);
  const std::uint32_t second = lend(64, 64);
  EXPECT_NE(first, second);
  expect_write(through(second, 64), IBV_WC_SUCCESS);
  expect_write(through(first, 0), IBV_WC_REM_ACCESS_ERR);
}

TEST_F(MemoryWindowTest, AWindowEndsAtItsBounds) {
  const std::uint32_t key = lend(1024, 64);
  expect_write(through(key, 1024 + 56),
               quirks().enforces_window_bounds ? IBV_WC_REM_ACCESS_ERR : IBV_WC_SUCCESS);
}

TEST_F(MemoryWindowTest, AWindowGivesNoMoreRightsThanItWasBoundWith) {
  const std::uint32_t key = lend(0, 1024, IBV_ACCESS_REMOTE_READ);
  a().post(read({near().piece(0, 8)}, through(key, 0)));
  expect_success(a().sent(), IBV_WC_RDMA_READ, 0, a());
  expect_write(through(key, 0), IBV_WC_REM_ACCESS_ERR);
}

TEST_F(MemoryWindowTest, AWindowOpensOnlyThroughItsQueuePair) {
  Endpoint other_b{device(), EndpointOptions{.pd = b().pd()}};
  Endpoint other_a{device()};
  connect(other_a, other_b);
  const std::uint32_t key = lend(0, 1024);
  Buffer& from = other_a.buffer(16);
  other_a.post(write({from.piece()}, through(key, 0)));
  expect_status(other_a.sent(), IBV_WC_REM_ACCESS_ERR, 0, other_a);
  expect_write(through(key, 0), IBV_WC_SUCCESS);
}

TEST_F(MemoryWindowTest, ARegionThatForbidsWindowsGetsNone) {
  Buffer& closed = b().buffer(64, MemoryKind::heap, full_access & ~IBV_ACCESS_MW_BIND);
  const std::uint32_t key = ibv_inc_rkey(window()->rkey);
  b().post(bind(window(), key, closed, 0, 64, remote_read_write).with_id(6));
  expect_status(b().sent(), IBV_WC_MW_BIND_ERR, 6, b());
}

TEST_F(MemoryWindowTest, ABindTakesEffectBeforeTheSendBehindIt) {
  for (int round = 0; round < 20; ++round) {
    const std::uint32_t key = ibv_inc_rkey(window()->rkey);
    Buffer& message = b().buffer(8);
    Buffer& into = a().buffer(8);
    message.set_word(key);
    a().post_receive(into.piece());
    b().post(bind(window(), key, far(), 0, 1024, remote_read_write).unsignalled());
    b().post(send({message.piece()}).inlined());
    window()->rkey = key;
    expect_success(a().received(), IBV_WC_RECV, 0, a());
    expect_write(through(static_cast<std::uint32_t>(into.word()), 0), IBV_WC_SUCCESS);
    expect_success(b().sent(), IBV_WC_SEND, 0, b());
    revoke(key);
  }
}

// ---- Type 1: bound by ibv_bind_mw, open to all queue pairs of the domain ----

class DomainWindowTest : public MemoryWindowTest {
 protected:
  void SetUp() override {
    MemoryWindowTest::SetUp();
    ibv_mw* const allocated = device().alloc_mw(b().pd(), IBV_MW_TYPE_1);
    ASSERT_NE(allocated, nullptr);
    mw_ = {device(), allocated};
  }
  void TearDown() override { mw_.reset(); }

  std::uint32_t lend_to_all(std::size_t offset, std::size_t length, unsigned int access = remote_read_write) {
    ibv_mw_bind request{5, IBV_SEND_SIGNALED, {far().region(), far().remote(offset).address, length, access}};
    EXPECT_EQ(ibv_bind_mw(b().qp(), mw_.get(), &request), 0);
    expect_success(b().sent(), IBV_WC_BIND_MW, 5, b());
    return mw_->rkey;
  }
  core::Handle<ibv_mw>& mw() { return mw_; }

 private:
  core::Handle<ibv_mw> mw_;
};

TEST_F(DomainWindowTest, ItOpensThroughAnyQueuePairOfItsDomain) {
  Endpoint other_b{device(), EndpointOptions{.pd = b().pd()}};
  Endpoint other_a{device()};
  connect(other_a, other_b);
  const std::uint32_t key = lend_to_all(1024, 1024);
  expect_write(through(key, 1024), IBV_WC_SUCCESS);
  Buffer& from = other_a.buffer(16);
  other_a.post(write({from.piece()}, through(key, 1040)));
  expect_success(other_a.sent(), IBV_WC_RDMA_WRITE, 0, other_a);
}

TEST_F(DomainWindowTest, BindingItAnewEndsItsOldKey) {
  const std::uint32_t first = lend_to_all(0, 64);
  expect_write(through(first, 0), IBV_WC_SUCCESS);
  const std::uint32_t second = lend_to_all(64, 64);
  ASSERT_NE(first, second);
  far().fill(0);
  expect_write(through(second, 64), IBV_WC_SUCCESS);
  EXPECT_NE(far().word(64), 0U);
  expect_write(through(first, 0), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(far().word(0), 0U);
}

TEST_F(DomainWindowTest, BoundToNothingItOpensNothing) {
  const std::uint32_t key = lend_to_all(0, 64);
  const std::uint32_t closed = lend_to_all(0, 0);
  far().fill(0);
  expect_write(through(closed, 0), IBV_WC_REM_ACCESS_ERR);
  EXPECT_NE(closed, key);
  EXPECT_EQ(far().word(0), 0U);
}

TEST_F(DomainWindowTest, EachTypeIsBoundInItsOwnWay) {
  ibv_mw_bind request{5, IBV_SEND_SIGNALED, {far().region(), far().remote(0).address, 64, remote_read_write}};
  EXPECT_EQ(ibv_bind_mw(b().qp(), window(), &request), EINVAL);
  if (!quirks().tells_window_types_apart) return;
  EXPECT_NE(b().try_post(bind(mw().get(), ibv_inc_rkey(mw()->rkey), far(), 0, 64, remote_read_write)), 0);
}

TEST_F(DomainWindowTest, ARegionOutlivesItsWindow) {
  lend_to_all(0, 64);
  EXPECT_NE(device().dereg_mr(far().region()), 0);
}

}  // namespace
}  // namespace verbena::test
