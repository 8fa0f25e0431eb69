// SPDX-License-Identifier: Apache-2.0
// Posting by calls: ibv_wr_start, a function for each operation, ibv_wr_complete.
#include <cerrno>
#include <cstring>

#include "device/device_test.h"

namespace verbena::test {
namespace {

constexpr std::uint64_t every_operation = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |
                                          IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM |
                                          IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
                                          IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_LOCAL_INV |
                                          IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_SEND_WITH_INV;

class ExtendedQueuePairTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pair_.emplace(device(), EndpointOptions{.operations = every_operation});
    near_ = &a().buffer(1024);
    far_ = &b().buffer(1024);
    qp_ = device().qp_to_qp_ex(a().qp());
    ASSERT_NE(qp_, nullptr);
    qp_->wr_flags = IBV_SEND_SIGNALED;
  }

  void set(const ibv_sge& piece) { ibv_wr_set_sge(qp_, piece.lkey, piece.addr, piece.length); }
  void expect_sent(ibv_wc_opcode opcode, std::uint64_t id) { expect_success(a().sent(), opcode, id, a()); }

  Endpoint& a() { return pair_->a; }
  Endpoint& b() { return pair_->b; }
  Buffer& near() { return *near_; }
  Buffer& far() { return *far_; }
  ibv_qp_ex* qp() { return qp_; }

 private:
  std::optional<Pair> pair_;
  Buffer* near_ = nullptr;
  Buffer* far_ = nullptr;
  ibv_qp_ex* qp_ = nullptr;
};

TEST_F(ExtendedQueuePairTest, OneBatchOfManyKindsIsCarriedOutInOrder) {
  near().fill(0x31);
  far().set_word(40, 512);
  b().post_receive(far().piece(600, 100), 11);
  b().post_receive(far().piece(700, 100), 12);
  b().post_receive(Pieces{}, 13);
  ibv_wr_start(qp());
  qp()->wr_id = 1;
  ibv_wr_rdma_write(qp(), far().remote().rkey, far().remote(0).address);
  set(near().piece(0, 64));
  qp()->wr_id = 2;
  ibv_wr_rdma_read(qp(), far().remote().rkey, far().remote(512).address);
  set(near().piece(256, 8));
  qp()->wr_id = 3;
  ibv_wr_atomic_fetch_add(qp(), far().remote().rkey, far().remote(512).address, 2);
  set(near().piece(264, 8));
  qp()->wr_id = 4;
  ibv_wr_atomic_cmp_swp(qp(), far().remote().rkey, far().remote(512).address, 42, 99);
  set(near().piece(272, 8));
  qp()->wr_id = 5;
  ibv_wr_send(qp());
  const ibv_sge two[] = {near().piece(0, 10), near().piece(20, 30)};
  ibv_wr_set_sge_list(qp(), quirks().builds_lists ? 2 : 1, two);
  qp()->wr_id = 6;
  ibv_wr_send_imm(qp(), htonl(66));
  set(near().piece(0, 16));
  qp()->wr_id = 7;
  ibv_wr_rdma_write_imm(qp(), far().remote().rkey, far().remote(128).address, htonl(77));
  set(near().piece(0, 32));
  ASSERT_EQ(ibv_wr_complete(qp()), 0);

  expect_sent(IBV_WC_RDMA_WRITE, 1);
  expect_sent(IBV_WC_RDMA_READ, 2);
  expect_sent(IBV_WC_FETCH_ADD, 3);
  expect_sent(IBV_WC_COMP_SWAP, 4);
  ibv_wc received = b().received();
  expect_success(received, IBV_WC_RECV, 11, b());
  EXPECT_EQ(received.byte_len, quirks().builds_lists ? 40U : 10U);
  received = b().received();
  expect_success(received, IBV_WC_RECV, 12, b());
  EXPECT_EQ(ntohl(received.imm_data), 66U);
  received = b().received();
  expect_success(received, IBV_WC_RECV_RDMA_WITH_IMM, 13, b());
  EXPECT_EQ(ntohl(received.imm_data), 77U);
  expect_sent(IBV_WC_SEND, 5);
  expect_sent(IBV_WC_SEND, 6);
  expect_sent(IBV_WC_RDMA_WRITE, 7);
  expect_equal(far().bytes(0, 64), near().bytes(0, 64));
  expect_equal(far().bytes(128, 32), near().bytes(0, 32));
  EXPECT_EQ(near().word(256), 40U);
  EXPECT_EQ(near().word(264), 40U);
  EXPECT_EQ(near().word(272), 42U);
  EXPECT_EQ(far().word(512), 99U);
}

TEST_F(ExtendedQueuePairTest, InlineBytesAreTheUsersAgainBeforeTheBatchEnds) {
  b().post_receive(far().piece(0, 64));
  b().post_receive(far().piece(64, 64));
  std::array<char, 24> text{};
  std::memcpy(text.data(), "first half, second half.", text.size());
  qp()->wr_flags |= IBV_SEND_INLINE;  // rxe wants to be told
  ibv_wr_start(qp());
  ibv_wr_send(qp());
  ibv_wr_set_inline_data(qp(), text.data(), text.size());
  std::memset(text.data(), 'x', text.size());
  if (quirks().builds_lists) {
    ibv_wr_send(qp());
    const ibv_data_buf pieces[] = {{text.data(), 4}, {text.data() + 8, 8}};
    ibv_wr_set_inline_data_list(qp(), 2, pieces);
  }
  ASSERT_EQ(ibv_wr_complete(qp()), 0);
  EXPECT_EQ(b().received().byte_len, 24U);
  EXPECT_EQ(std::memcmp(far().bytes().data(), "first half, second half.", 24), 0);
  if (!quirks().builds_lists) return;
  EXPECT_EQ(b().received().byte_len, 12U);
  EXPECT_EQ(std::memcmp(far().bytes(64, 12).data(), "xxxxxxxxxxxx", 12), 0);
}

TEST_F(ExtendedQueuePairTest, AnAbortedBatchIsNeverPosted) {
  near().fill(0x77);
  ibv_wr_start(qp());
  ibv_wr_rdma_write(qp(), far().remote().rkey, far().remote().address);
  set(near().piece(0, 8));
  ibv_wr_abort(qp());
  ibv_wr_start(qp());
  qp()->wr_id = 9;
  ibv_wr_rdma_write(qp(), far().remote().rkey, far().remote(8).address);
  set(near().piece(0, 8));
  ASSERT_EQ(ibv_wr_complete(qp()), 0);
  expect_sent(IBV_WC_RDMA_WRITE, 9);
  EXPECT_EQ(far().word(0), 0U);
  EXPECT_NE(far().word(8), 0U);
}

TEST_F(ExtendedQueuePairTest, OneBadRequestAndNothingIsPosted) {
  near().fill(0x77);
  ibv_wr_start(qp());
  ibv_wr_rdma_write(qp(), far().remote().rkey, far().remote().address);
  set(near().piece(0, 8));
  ibv_wr_send(qp());
  const std::vector<ibv_sge> too_many(a().granted().max_send_sge + 1, near().piece(0, 1));
  ibv_wr_set_sge_list(qp(), too_many.size(), too_many.data());
  EXPECT_NE(ibv_wr_complete(qp()), 0);
  EXPECT_TRUE(stays([&] { return a().nothing_sent(); }, std::chrono::milliseconds{5}));
  EXPECT_EQ(far().word(0), 0U);
}

TEST_F(ExtendedQueuePairTest, ABatchThatFindsNoRoomIsNotPosted) {
  near().fill(0x77);
  ibv_wr_start(qp());
  const std::uint32_t too_many = 4 * a().granted().max_send_wr;  // a device may have more room than it says
  for (std::uint32_t i = 0; i < too_many; ++i) {
    ibv_wr_rdma_write(qp(), far().remote().rkey, far().remote().address);
    set(near().piece(0, 8));
  }
  EXPECT_NE(ibv_wr_complete(qp()), 0);
  EXPECT_EQ(far().word(0), 0U);
}

TEST_F(ExtendedQueuePairTest, WindowsAreBoundAndInvalidated) {
  const core::Handle<ibv_mw> window{device(), device().alloc_mw(a().pd(), IBV_MW_TYPE_2)};
  ASSERT_TRUE(window);
  const std::uint32_t key = ibv_inc_rkey(window->rkey);
  const ibv_mw_bind_info bound{near().region(), near().remote().address, 64, IBV_ACCESS_REMOTE_WRITE};
  ibv_wr_start(qp());
  qp()->wr_id = 1;
  ibv_wr_bind_mw(qp(), window.get(), key, &bound);
  ASSERT_EQ(ibv_wr_complete(qp()), 0);
  expect_sent(IBV_WC_BIND_MW, 1);
  window->rkey = key;
  far().set_word(123, 0);
  b().post(write({far().piece(0, 8)}, {near().remote().address, key}));
  expect_success(b().sent(), IBV_WC_RDMA_WRITE, 0, b());
  EXPECT_EQ(near().word(), 123U);
  ibv_wr_start(qp());
  qp()->wr_id = 2;
  ibv_wr_local_inv(qp(), key);
  ASSERT_EQ(ibv_wr_complete(qp()), 0);
  expect_sent(IBV_WC_LOCAL_INV, 2);
  b().post(write({far().piece(0, 8)}, {near().remote().address, key}));
  expect_status(b().sent(), IBV_WC_REM_ACCESS_ERR, 0, b());
}

TEST_F(ExtendedQueuePairTest, ADatagramGoesWhereItIsAddressed) {
  constexpr EndpointOptions options{.type = IBV_QPT_UD,
                                    .operations = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM};
  Endpoint from{device(), options};
  Endpoint to{device(), options};
  connect(from, to);
  ibv_ah_attr attr{};
  attr.port_num = 1;
  attr.is_global = 1;
  attr.grh.dgid = to.facts().gid;
  attr.grh.sgid_index = static_cast<std::uint8_t>(device().preferred_gid_index(1));
  const core::Handle<ibv_ah> address{device(), device().create_ah(from.pd(), attr)};
  ASSERT_TRUE(address);
  to.post_receive(to.buffer(100).piece(), 4);
  ibv_qp_ex* const datagrams = device().qp_to_qp_ex(from.qp());
  ASSERT_NE(datagrams, nullptr);
  datagrams->wr_flags = 0;
  ibv_wr_start(datagrams);
  ibv_wr_send_imm(datagrams, htonl(3));
  ibv_wr_set_ud_addr(datagrams, address.get(), to.number(), datagram_key);
  const ibv_sge piece = from.buffer(8).piece();
  ibv_wr_set_sge(datagrams, piece.lkey, piece.addr, piece.length);
  ASSERT_EQ(ibv_wr_complete(datagrams), 0);
  const ibv_wc received = to.received();
  expect_success(received, IBV_WC_RECV, 4, to);
  EXPECT_EQ(ntohl(received.imm_data), 3U);
}

TEST_F(ExtendedQueuePairTest, OrdinaryPostsGoBesideIt) {
  b().post_receive(far().piece(), 1);
  b().post_receive(far().piece(), 2);
  a().post(send({near().piece()}).with_id(1));
  ibv_wr_start(qp());
  qp()->wr_id = 2;
  ibv_wr_send(qp());
  set(near().piece());
  ASSERT_EQ(ibv_wr_complete(qp()), 0);
  EXPECT_EQ(b().received().wr_id, 1U);
  EXPECT_EQ(b().received().wr_id, 2U);
}

TEST_F(ExtendedQueuePairTest, OneThatWasNotCreatedForItHasNone) {
  Endpoint plain{device()};
  EXPECT_EQ(device().qp_to_qp_ex(plain.qp()), nullptr);
}

TEST_F(ExtendedQueuePairTest, OperationsThatAServiceLacksAreRefused) {
  EXPECT_THROW((Endpoint{device(), {.operations = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_TSO}}),
               std::system_error);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_THROW((Endpoint{device(), {.type = IBV_QPT_UD, .operations = IBV_QP_EX_WITH_RDMA_READ}}),
               std::system_error);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

}  // namespace
}  // namespace verbena::test
