// SPDX-License-Identifier: Apache-2.0
// Regions that are registered anew, parent domains and thread domains.
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

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

// ---- Regions whose addresses are others than the memory's own ----

class RenamedRegionTest : public DeviceTest {
 protected:
  static constexpr std::uint64_t iova = 0x1000;  // where nothing ever lies
  static constexpr std::size_t size = 64 * 1024;

  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  /// `size` bytes of the endpoint's that are named from `iova` on.
  struct Renamed {
    std::unique_ptr<std::byte, Free> bytes;
    core::Handle<ibv_mr> region;

    ibv_sge piece(std::size_t offset, std::size_t length) const {
      return {iova + offset, static_cast<std::uint32_t>(length), region->lkey};
    }
    Remote remote(std::size_t offset) const { return {iova + offset, region->rkey}; }
    std::span<std::byte> at(std::size_t offset, std::size_t length) const {
      return {bytes.get() + offset, length};
    }
  };
  Renamed make(Endpoint& endpoint) {
    Renamed made;
    void* const memory = std::aligned_alloc(4096, size);  // as far into a page as `iova`
    std::memset(memory, 0, size);
    made.bytes.reset(static_cast<std::byte*>(memory));
    made.region = {device(), device().reg_mr_iova(endpoint.pd(), memory, size, iova, everything)};
    if (!made.region) throw std::system_error(errno, std::generic_category(), "registering with an iova");
    return made;
  }
};

TEST_F(RenamedRegionTest, ItIsWrittenReadAndCountedInByItsOwnAddresses) {
  Pair pair{device()};
  const Renamed near = make(pair.a);
  const Renamed far = make(pair.b);
  Dice dice;
  dice.fill(near.at(0, size));
  for (const std::size_t length : {std::size_t{8}, std::size_t{100}, size / 2}) {
    pair.a.post(write({near.piece(0, length)}, far.remote(size / 2)));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
    expect_equal(far.at(size / 2, length), near.at(0, length));
    pair.a.post(read({near.piece(size / 2, length)}, far.remote(size / 2)));
    expect_success(pair.a.sent(), IBV_WC_RDMA_READ, 0, pair.a);
    expect_equal(near.at(size / 2, length), near.at(0, length));
  }
  const std::uint64_t before = 40;
  std::memcpy(far.at(16, 8).data(), &before, sizeof before);
  pair.a.post(fetch_add(near.piece(24, 8), far.remote(16), 2));
  expect_success(pair.a.sent(), IBV_WC_FETCH_ADD, 0, pair.a);
  EXPECT_EQ(std::memcmp(near.at(24, 8).data(), &before, sizeof before), 0);
}

TEST_F(RenamedRegionTest, MessagesLeaveItAndArriveInIt) {
  Pair pair{device()};
  const Renamed near = make(pair.a);
  const Renamed far = make(pair.b);
  Dice dice;
  dice.fill(near.at(0, size));
  for (const std::size_t length : {std::size_t{8}, std::size_t{100}, std::size_t{5000}, size}) {
    pair.b.post_receive(far.piece(0, size), length);
    pair.a.post(send({near.piece(0, length)}).with_id(length));
    expect_success(pair.b.received(), IBV_WC_RECV, length, pair.b);
    expect_success(pair.a.sent(), IBV_WC_SEND, length, pair.a);
    expect_equal(far.at(0, length), near.at(0, length));
  }
}

TEST_F(RenamedRegionTest, ItEndsAtItsBounds) {
  {
    Pair pair{device()};
    const Renamed far = make(pair.b);
    Buffer& near = pair.a.buffer(16);
    pair.a.post(write({near.piece()}, far.remote(size - 8)));
    expect_status(pair.a.sent(), IBV_WC_REM_ACCESS_ERR, 0, pair.a);
  }
  Pair pair{device()};
  const Renamed near = make(pair.a);
  Buffer& far = pair.b.buffer(16);
  pair.a.post(write({near.piece(size - 8, 16)}, far.remote()));
  expect_status(pair.a.sent(), IBV_WC_LOC_PROT_ERR, 0, pair.a);
}

TEST_F(RenamedRegionTest, DeregisteredItOpensNothing) {
  Pair pair{device()};
  Renamed far = make(pair.b);
  Buffer& near = pair.a.buffer(16);
  near.fill(0x55);
  const Remote remote = far.remote(0);
  far.region.reset();
  pair.a.post(write({near.piece()}, remote));
  expect_status(pair.a.sent(), IBV_WC_REM_ACCESS_ERR, 0, pair.a);
  EXPECT_EQ(*far.bytes, std::byte{0});
}

// ---- Regions of nothing ----

class NullRegionTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pair_.emplace(device());
    ibv_mr* const of_a = ibv_alloc_null_mr(a().pd());
    if (!of_a) {
      ASSERT_EQ(errno, EOPNOTSUPP);
      GTEST_SKIP() << "this device has no null regions";
    }
    of_a_ = {device(), of_a};
    of_b_ = {device(), ibv_alloc_null_mr(b().pd())};
    ASSERT_TRUE(of_b_);
    near_ = &a().buffer(size);
    far_ = &b().buffer(size);
    Dice dice;
    dice.fill(near_->bytes());
    far_->fill(0x55);
  }
  void TearDown() override {
    of_a_.reset();
    of_b_.reset();
  }
  static constexpr std::size_t size = 64 * 1024;

  ibv_sge nothing_of_a(std::uint32_t length) const { return {0x1234, length, of_a_->lkey}; }
  ibv_sge nothing_of_b(std::uint32_t length) const { return {0, length, of_b_->lkey}; }
  static void expect_zeros(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) ASSERT_EQ(byte, std::byte{0});
  }
  Endpoint& a() { return pair_->a; }
  Endpoint& b() { return pair_->b; }
  Buffer& near() { return *near_; }
  Buffer& far() { return *far_; }

 private:
  std::optional<Pair> pair_;
  core::Handle<ibv_mr> of_a_;
  core::Handle<ibv_mr> of_b_;
  Buffer* near_ = nullptr;
  Buffer* far_ = nullptr;
};

TEST_F(NullRegionTest, WhatIsSentOfItIsZeros) {
  for (const std::uint32_t length : {1U, 48U, 100U, 5000U, 32'000U}) {
    far().fill(0x55);
    b().post_receive(far().piece());
    a().post(send({near().piece(0, 8), nothing_of_a(length), near().piece(8, 8)}));
    EXPECT_EQ(b().received().byte_len, 16 + length);
    expect_success(a().sent(), IBV_WC_SEND, 0, a());
    expect_equal(far().bytes(0, 8), near().bytes(0, 8));
    expect_zeros(far().bytes(8, length));
    expect_equal(far().bytes(8 + length, 8), near().bytes(8, 8));
  }
  a().post(write({nothing_of_a(100)}, far().remote(100)));
  expect_success(a().sent(), IBV_WC_RDMA_WRITE, 0, a());
  expect_zeros(far().bytes(100, 100));
}

TEST_F(NullRegionTest, WhatComesIntoItIsLeftOut) {
  for (const std::uint32_t length : {1U, 30U, 5000U, 32'000U}) {
    far().fill(0x55);
    b().post_receive(Pieces{far().piece(0, 8), nothing_of_b(length), far().piece(8, 8)});
    a().post(send({near().piece(0, 16 + length)}));
    EXPECT_EQ(b().received().byte_len, 16 + length);
    expect_success(a().sent(), IBV_WC_SEND, 0, a());
    expect_equal(far().bytes(0, 8), near().bytes(0, 8));
    expect_equal(far().bytes(8, 8), near().bytes(8 + length, 8));
  }
  a().post(read({nothing_of_a(100), near().piece(0, 8)}, far().remote(0)));
  expect_success(a().sent(), IBV_WC_RDMA_READ, 0, a());
  expect_equal(near().bytes(0, 8), far().bytes(100, 8));
  far().set_word(4, 64);
  a().post(fetch_add(nothing_of_a(8), far().remote(64), 1));
  expect_success(a().sent(), IBV_WC_FETCH_ADD, 0, a());
  EXPECT_EQ(far().word(64), 5U);
}

// What has come into one must not be read of another.
TEST_F(NullRegionTest, ItIsZerosStillWhenSomethingHasComeIntoIt) {
  b().post_receive(Pieces{nothing_of_b(100)});
  a().post(send({near().piece(0, 100)}));
  b().received();
  expect_success(a().sent(), IBV_WC_SEND, 0, a());
  near().fill(0x77);
  b().post(write({nothing_of_b(100)}, near().remote()));
  expect_success(b().sent(), IBV_WC_RDMA_WRITE, 0, b());
  expect_zeros(near().bytes(0, 100));
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
