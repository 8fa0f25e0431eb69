// SPDX-License-Identifier: Apache-2.0
// Regions that are registered anew, parent domains and thread domains.
#include <cerrno>

#include "device/device_test.h"

namespace verbena::test {
namespace {

constexpr int everything = full_access;

/// `b` exposes memory that it registers by itself; `a` writes to it.
class ReregistrationTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pair_.emplace(device());
    near_ = &a().buffer(64);
    near_->fill(0x44);
    region_ = {device(), device().reg_mr(b().pd(), first_.data(), first_.size(), everything)};
    ASSERT_TRUE(region_);
    if (device().rereg_mr(region_.get(), IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0, everything) == 0)
      return;
    ASSERT_EQ(errno, EOPNOTSUPP);
    GTEST_SKIP() << "this device registers nothing anew";
  }
  void TearDown() override { region_.reset(); }

  void expect_write(const void* to, std::uint32_t key, ibv_wc_status status) {
    a().post(write({near_->piece(0, 8)}, {reinterpret_cast<std::uint64_t>(to), key}));
    expect_status(a().sent(), status, 0, a());
  }

  Endpoint& a() { return pair_->a; }
  Endpoint& b() { return pair_->b; }
  ibv_mr* region() { return region_.get(); }
  std::array<std::uint64_t, 64>& first() { return first_; }
  std::array<std::uint64_t, 64>& second() { return second_; }

 private:
  std::array<std::uint64_t, 64> first_{};
  std::array<std::uint64_t, 64> second_{};
  std::optional<Pair> pair_;
  Buffer* near_ = nullptr;
  core::Handle<ibv_mr> region_;
};

TEST_F(ReregistrationTest, ItStandsForOtherMemoryThen) {
  expect_write(first().data(), region()->rkey, IBV_WC_SUCCESS);
  ASSERT_EQ(device().rereg_mr(region(), IBV_REREG_MR_CHANGE_TRANSLATION, nullptr, second().data(),
                              sizeof second(), 0),
            0);
  EXPECT_EQ(region()->addr, second().data());
  EXPECT_EQ(region()->length, sizeof second());
  expect_write(second().data(), region()->rkey, IBV_WC_SUCCESS);
  EXPECT_NE(second()[0], 0U);
  const std::uint64_t before = first()[1];
  expect_write(&first()[1], region()->rkey, IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(first()[1], before);
}

TEST_F(ReregistrationTest, ItsOldKeyOpensNothing) {
  expect_write(first().data(), region()->rkey, IBV_WC_SUCCESS);  // and the peer knows the way
  const std::uint32_t old = region()->rkey;
  ASSERT_EQ(device().rereg_mr(region(), IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0, everything), 0);
  ASSERT_NE(region()->rkey, old);
  first().fill(0);
  expect_write(first().data(), old, IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(first()[0], 0U);
}

TEST_F(ReregistrationTest, ItGivesFewerRightsThen) {
  ASSERT_EQ(device().rereg_mr(region(), IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0,
                              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ),
            0);
  expect_write(first().data(), region()->rkey, IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(first()[0], 0U);
}

TEST_F(ReregistrationTest, ItBelongsToAnotherDomainThen) {
  core::Handle<ibv_pd> other{device(), device().alloc_pd()};
  ASSERT_EQ(device().rereg_mr(region(), IBV_REREG_MR_CHANGE_PD, other.get(), nullptr, 0, 0), 0);
  EXPECT_EQ(device().dealloc_pd(other.get()), EBUSY);
  expect_write(first().data(), region()->rkey, IBV_WC_REM_ACCESS_ERR);
  ASSERT_EQ(device().rereg_mr(region(), IBV_REREG_MR_CHANGE_PD, b().pd(), nullptr, 0, 0), 0);
}

TEST_F(ReregistrationTest, WhatMakesNoSenseLeavesItAsItWas) {
  const auto expect_refused = [&](int flags, void* address, std::size_t length, int access) {
    EXPECT_EQ(device().rereg_mr(region(), flags, nullptr, address, length, access), IBV_REREG_MR_ERR_INPUT);
    EXPECT_EQ(errno, EINVAL);
  };
  expect_refused(IBV_REREG_MR_CHANGE_TRANSLATION, nullptr, 64, 0);
  expect_refused(IBV_REREG_MR_CHANGE_TRANSLATION, first().data(), 0, 0);
  expect_refused(IBV_REREG_MR_CHANGE_PD, nullptr, 0, 0);
  expect_refused(IBV_REREG_MR_CHANGE_ACCESS, nullptr, 0, IBV_ACCESS_REMOTE_WRITE);
  expect_refused(1 << 10, nullptr, 0, 0);
  expect_write(first().data(), region()->rkey, IBV_WC_SUCCESS);
}

class ParentDomainTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pd_ = {device(), device().alloc_pd()};
    ibv_td_init_attr init{};
    td_ = ibv_alloc_td(device().context(), &init);
    if (td_) return;
    EXPECT_EQ(errno, EOPNOTSUPP);
    EXPECT_EQ(make(pd_.get(), nullptr), nullptr);
    EXPECT_EQ(errno, EOPNOTSUPP);
    GTEST_SKIP() << "this device has no thread domains";
  }
  void TearDown() override {
    if (td_) {
      EXPECT_EQ(ibv_dealloc_td(td_), 0);
    }
  }

  ibv_pd* make(ibv_pd* pd, ibv_td* td, std::uint32_t mask = 0) {
    ibv_parent_domain_init_attr init{};
    init.pd = pd;
    init.td = td;
    init.comp_mask = mask;
    return ibv_alloc_parent_domain(device().context(), &init);
  }
  ibv_pd* pd() { return pd_.get(); }
  ibv_td* td() { return td_; }

 private:
  core::Handle<ibv_pd> pd_;
  ibv_td* td_ = nullptr;
};

TEST_F(ParentDomainTest, ItIsTheDomainThatItWasMadeOf) {
  const core::Handle<ibv_pd> parent{device(), make(pd(), td())};
  ASSERT_TRUE(parent);
  // The queue pair is of the one, the memory of the other.
  Endpoint a{device()};
  Endpoint b{device(), {.pd = parent.get()}};
  connect(a, b);
  std::uint64_t word = 0;
  const core::Handle<ibv_mr> region{device(), device().reg_mr(pd(), &word, sizeof word, everything)};
  ASSERT_TRUE(region);
  Buffer& near = a.buffer(8);
  near.set_word(7);
  a.post(write({near.piece()}, {reinterpret_cast<std::uint64_t>(&word), region->rkey}));
  expect_success(a.sent(), IBV_WC_RDMA_WRITE, 0, a);
  EXPECT_EQ(word, 7U);
}

TEST_F(ParentDomainTest, WhatItIsMadeOfOutlivesIt) {
  core::Handle<ibv_pd> parent{device(), make(pd(), td())};
  ASSERT_TRUE(parent);
  EXPECT_EQ(device().dealloc_pd(pd()), EBUSY);
  EXPECT_EQ(ibv_dealloc_td(td()), EBUSY);
}

TEST_F(ParentDomainTest, OneWithoutADomainIsRefused) {
  EXPECT_EQ(make(nullptr, td()), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

}  // namespace
}  // namespace verbena::test
