// SPDX-License-Identifier: Apache-2.0
// UD: datagrams to anyone, each by itself, behind a header that says where it came from.
#include <poll.h>

#include <cerrno>
#include <cstring>

#include "device/device_test.h"

namespace verbena::test {
namespace {

constexpr std::size_t header = sizeof(ibv_grh);
constexpr std::size_t longest = 1024;  // fits every path MTU

class DatagramTest : public DeviceTest {
 protected:
  static constexpr EndpointOptions options{.type = IBV_QPT_UD};

  void SetUp() override {
    DeviceTest::SetUp();
    a_ = std::make_unique<Endpoint>(device(), options);
    b_ = std::make_unique<Endpoint>(device(), options);
    connect(*a_, *b_);
    here_ = {device(), address_of(a_->pd())};
    ASSERT_TRUE(here_);
  }
  void TearDown() override { here_.reset(); }

  Endpoint& a() { return *a_; }
  Endpoint& b() { return *b_; }
  /// The address that all queue pairs of the device have.
  ibv_ah* here() { return here_.get(); }
  ibv_ah* address_of(ibv_pd* pd) {
    ibv_ah_attr attr{};
    attr.port_num = 1;
    attr.is_global = 1;
    attr.grh.dgid = a_->facts().gid;
    attr.grh.sgid_index = static_cast<std::uint8_t>(device().preferred_gid_index(1));
    attr.grh.hop_limit = 64;
    return device().create_ah(pd, attr);
  }
  Work to_b(Work work, std::uint32_t key = datagram_key) {
    return std::move(work).towards(here(), b_->number(), key);
  }
  /// Whatever was sent before has come or is lost.
  void expect_next(std::uint32_t immediate) {
    a_->post(to_b(send_with_imm({}, immediate)));
    EXPECT_EQ(name_of(a_->sent().status), name_of(IBV_WC_SUCCESS));
    const ibv_wc completion = b_->received();
    EXPECT_EQ(name_of(completion.status), name_of(IBV_WC_SUCCESS));
    EXPECT_EQ(ntohl(completion.imm_data), immediate);
  }

 private:
  std::unique_ptr<Endpoint> a_;
  std::unique_ptr<Endpoint> b_;
  core::Handle<ibv_ah> here_;
};

TEST_F(DatagramTest, ADatagramArrivesBehindAHeaderWithItsSender) {
  Dice dice;
  Buffer& from = a().buffer(longest);
  Buffer& into = b().buffer(header + longest);
  dice.fill(from.bytes());
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{100}, longest}) {
    b().post_receive(into.piece(), 7);
    a().post(to_b(send({from.piece(0, length)}).with_id(3)));
    expect_success(a().sent(), IBV_WC_SEND, 3, a());
    const ibv_wc received = b().received();
    expect_success(received, IBV_WC_RECV, 7, b());
    EXPECT_EQ(received.byte_len, header + length);
    EXPECT_EQ(received.src_qp, a().number());
    EXPECT_NE(received.wc_flags & IBV_WC_GRH, 0U);
    EXPECT_EQ(received.wc_flags & IBV_WC_WITH_IMM, 0U);
    expect_equal(into.bytes(header, length), from.bytes(0, length));
  }
}

TEST_F(DatagramTest, AnInlineDatagramWithAnImmediateValueArrives) {
  Buffer& into = b().buffer(header + 32);
  std::array<std::byte, 32> text{};
  std::memset(text.data(), 0x42, text.size());
  b().post_receive(into.piece());
  a().post(
      to_b(send_with_imm({{reinterpret_cast<std::uintptr_t>(text.data()), text.size(), 0}}, 99).inlined()));
  const ibv_wc received = b().received();
  expect_success(received, IBV_WC_RECV, 0, b());
  EXPECT_EQ(ntohl(received.imm_data), 99U);
  for (const std::byte byte : into.bytes(header, text.size())) ASSERT_EQ(byte, std::byte{0x42});
}

TEST_F(DatagramTest, OneQueuePairHearsManyAndAnswersEach) {
  constexpr std::uint32_t many = 5;
  std::vector<std::unique_ptr<Endpoint>> others;
  for (std::uint32_t i = 0; i < many; ++i) {
    b().post_receive(b().buffer(header).piece());
    auto& other = others.emplace_back(std::make_unique<Endpoint>(device(), options));
    other->connect(b().facts());
    other->post_receive(other->buffer(header).piece());
  }
  std::vector<core::Handle<ibv_ah>> addresses;
  for (auto& other : others) {
    ibv_ah* const to = addresses.emplace_back(device(), address_of(other->pd())).get();
    other->post(send_with_imm({}, other->number()).towards(to, b().number(), datagram_key));
    const ibv_wc received = b().received();
    ASSERT_EQ(received.src_qp, other->number());
    EXPECT_EQ(ntohl(received.imm_data), other->number());
    ibv_ah* const back = addresses.emplace_back(device(), address_of(b().pd())).get();
    b().post(send_with_imm({}, 1).towards(back, received.src_qp, datagram_key));
    EXPECT_EQ(other->received().src_qp, b().number());
  }
  for (auto& other : others) other->destroy_queue_pair();
}

TEST_F(DatagramTest, AnotherKeyIsLost) {
  b().post_receive(b().buffer(header).piece());
  a().post(to_b(send_with_imm({}, 1), datagram_key + 1));
  EXPECT_EQ(name_of(a().sent().status), name_of(IBV_WC_SUCCESS));
  expect_next(2);
}

TEST_F(DatagramTest, AKeyWithItsHighestBitMeansTheSendersOwn) {
  if (!quirks().knows_own_datagram_key) GTEST_SKIP() << "this device sends the key as it stands";
  b().post_receive(b().buffer(header).piece());
  a().post(to_b(send_with_imm({}, 3), 0x8000'0000));
  EXPECT_EQ(ntohl(b().received().imm_data), 3U);
}

TEST_F(DatagramTest, WhatMeetsNoReceiveIsLost) {
  a().post(to_b(send_with_imm({}, 1)));
  EXPECT_EQ(name_of(a().sent().status), name_of(IBV_WC_SUCCESS));
  EXPECT_TRUE(stays([&] { return b().nothing_received(); }, std::chrono::milliseconds{20}));
  b().post_receive(b().buffer(header).piece());
  expect_next(2);
}

TEST_F(DatagramTest, WhatIsLongerThanItsReceiveIsLostAndTheReceiveIsForTheNext) {
  b().post_receive(b().buffer(header + 10).piece(), 4);
  a().post(to_b(send({a().buffer(11).piece()})));
  if (!quirks().loses_what_is_too_long)
    return expect_status(b().received(), quirks().message_longer_than_receive, 4, b());
  EXPECT_EQ(name_of(a().sent().status), name_of(IBV_WC_SUCCESS));
  expect_next(2);
}

TEST_F(DatagramTest, OneToNobodySucceeds) {
  a().post(std::move(send({})).towards(here(), b().number() ^ 0x55'5555, datagram_key).with_id(8));
  expect_success(a().sent(), IBV_WC_SEND, 8, a());
}

TEST_F(DatagramTest, WritesReadsAndAtomicsAreRefusedWhenTheyArePosted) {
  if (!quirks().refuses_verbs_that_a_service_lacks) GTEST_SKIP() << "this device takes them";
  Buffer& near = a().buffer(8);
  EXPECT_NE(a().try_post(write({near.piece()}, near.remote())), 0);
  EXPECT_NE(a().try_post(read({near.piece()}, near.remote())), 0);
  EXPECT_NE(a().try_post(fetch_add(near.piece(), near.remote(), 1)), 0);
}

TEST_F(DatagramTest, AProtectionDomainOutlivesItsAddressHandles) {
  const core::Handle<ibv_pd> pd{device(), device().alloc_pd()};
  core::Handle<ibv_ah> address{device(), address_of(pd.get())};
  ASSERT_TRUE(address);
  EXPECT_EQ(device().dealloc_pd(pd.get()), EBUSY);
}

TEST_F(DatagramTest, ASleeperIsWokenByADatagram) {
  for (int i = 0; i < 20; ++i) {
    b().post_receive(b().buffer(header).piece());
    ASSERT_EQ(ibv_req_notify_cq(b().receive_cq(), 0), 0);
    a().post(to_b(send_with_imm({}, 4)));
    pollfd readable{b().channel()->fd, POLLIN, 0};
    ASSERT_EQ(poll(&readable, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())), 1);
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    ASSERT_EQ(device().get_cq_event(b().channel(), &cq, &context), 0);
    device().ack_cq_events(cq, 1);
    EXPECT_EQ(ntohl(b().received().imm_data), 4U);
    EXPECT_EQ(name_of(a().sent().status), name_of(IBV_WC_SUCCESS));
  }
}

TEST_F(DatagramTest, ReceivesAreFlushedInErrorAndForgottenByAReset) {
  b().post_receive(b().buffer(header).piece(), 6);
  ASSERT_EQ(b().to(IBV_QPS_ERR), 0);
  expect_status(b().received(), IBV_WC_WR_FLUSH_ERR, 6, b());
  ASSERT_EQ(b().to(IBV_QPS_RESET), 0);
  b().connect(a().facts());
  b().post_receive(b().buffer(header).piece());
  expect_next(5);
}

}  // namespace
}  // namespace verbena::test
