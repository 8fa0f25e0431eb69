// SPDX-License-Identifier: Apache-2.0
// XRC: queue pairs that only receive, and shared receive queues that the sender names with each message.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <thread>

#include "device/device_test.h"

namespace verbena::test {
namespace {

struct CloseDomain {
  void operator()(ibv_xrcd* xrcd) const { EXPECT_EQ(ibv_close_xrcd(xrcd), 0); }
};
using Domain = std::unique_ptr<ibv_xrcd, CloseDomain>;

class XrcTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    domain_.reset(open(-1, O_CREAT));
    if (!domain_) {
      ASSERT_EQ(errno, EOPNOTSUPP);
      GTEST_SKIP() << "this device has no XRC";
    }
    pd_ = {device(), device().alloc_pd()};
    sender_pd_ = {device(), device().alloc_pd()};
    near_.emplace(device(), sender_pd_.get(), buffer_size);
    far_.emplace(device(), pd_.get(), buffer_size);
    send_cq_ = {device(), device().create_cq(64, nullptr, nullptr, 0)};
  }

  static constexpr std::size_t buffer_size = 256 * 1024;

  ibv_xrcd* open(int fd, int flags) {
    ibv_xrcd_init_attr init{IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS, fd, flags};
    return ibv_open_xrcd(device().context(), &init);
  }

  /// A shared receive queue with a completion queue of its own.
  struct Queue {
    core::Handle<ibv_cq> cq;
    core::Handle<ibv_srq> srq;
    std::uint32_t number = 0;

    void post(std::uint64_t id, Pieces pieces) {
      ibv_recv_wr request{};
      request.wr_id = id;
      request.sg_list = pieces.data();
      request.num_sge = static_cast<int>(pieces.size());
      ibv_recv_wr* bad = nullptr;
      ASSERT_EQ(ibv_post_srq_recv(srq.get(), &request, &bad), 0);
    }
  };
  Queue make_queue() {
    Queue queue;
    queue.cq = {device(), device().create_cq(64, nullptr, nullptr, 0)};
    ibv_srq_init_attr_ex init{};
    init.attr = {32, 1, 0};
    init.comp_mask =
        IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
    init.srq_type = IBV_SRQT_XRC;
    init.pd = pd_.get();
    init.xrcd = domain_.get();
    init.cq = queue.cq.get();
    ibv_srq* const srq = ibv_create_srq_ex(device().context(), &init);
    if (!srq) throw std::system_error(errno, std::generic_category(), "creating an XRC receive queue");
    queue.srq = {device(), srq};
    EXPECT_EQ(ibv_get_srq_num(srq, &queue.number), 0);
    return queue;
  }
  ibv_qp* create_receiver(ibv_xrcd* xrcd) {
    ibv_qp_init_attr_ex init{};
    init.qp_type = IBV_QPT_XRC_RECV;
    init.comp_mask = IBV_QP_INIT_ATTR_XRCD;
    init.xrcd = xrcd;
    return ibv_create_qp_ex(device().context(), &init);
  }

  /// The two halves of a connection.
  struct Link {
    core::Handle<ibv_qp> receiver;
    core::Handle<ibv_qp> sender;
  };
  Link make_link(std::uint64_t operations = 0) {
    ibv_qp_init_attr_ex init{};
    init.qp_type = IBV_QPT_XRC_SEND;
    init.send_cq = send_cq_.get();
    init.cap = {32, 0, 2, 0, 64};
    init.comp_mask = IBV_QP_INIT_ATTR_PD;
    if (operations != 0) init.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    init.send_ops_flags = operations;
    init.pd = sender_pd_.get();
    Link link;
    link.receiver = {device(), create_receiver(domain_.get())};
    // As the inline function does it where there is no more than a protection domain.
    ibv_qp_init_attr plain{nullptr, init.send_cq, nullptr, nullptr, init.cap, init.qp_type, 0};
    link.sender = {device(), operations != 0 ? ibv_create_qp_ex(device().context(), &init)
                                             : device().create_qp(sender_pd_.get(), plain)};
    EXPECT_TRUE(link.receiver && link.sender);
    bring_up(link.receiver.get(), link.sender->qp_num);
    bring_up(link.sender.get(), link.receiver->qp_num);
    return link;
  }
  void bring_up(ibv_qp* qp, std::uint32_t peer) {
    const bool sends = qp->qp_type == IBV_QPT_XRC_SEND;
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_INIT;
    attr.port_num = 1;
    attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
    ASSERT_EQ(
        device().modify_qp(qp, attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS),
        0);
    attr.qp_state = IBV_QPS_RTR;
    attr.path_mtu = IBV_MTU_1024;
    attr.dest_qp_num = peer;
    attr.max_dest_rd_atomic = 4;
    attr.min_rnr_timer = 1;
    attr.ah_attr.port_num = 1;
    attr.ah_attr.is_global = 1;
    ASSERT_EQ(device().query_gid(1, 0, attr.ah_attr.grh.dgid), 0);
    const int to_rtr = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
    ASSERT_EQ(
        device().modify_qp(qp, attr, to_rtr | (sends ? 0 : IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)),
        0);
    attr.qp_state = IBV_QPS_RTS;
    attr.timeout = 12;
    attr.retry_cnt = 3;
    attr.rnr_retry = not_ready_retries_;
    attr.max_rd_atomic = 4;
    const int to_rts = IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT;
    ASSERT_EQ(
        device().modify_qp(
            qp, attr, to_rts | (sends ? IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC : 0)),
        0);
  }

  static void post(Link& link, Work work, std::uint32_t receive_queue) {
    work.request.sg_list = work.pieces.data();
    work.request.num_sge = static_cast<int>(work.pieces.size());
    work.request.qp_type.xrc.remote_srqn = receive_queue;
    ibv_send_wr* bad = nullptr;
    ASSERT_EQ(ibv_post_send(link.sender.get(), &work.request, &bad), 0);
  }
  static ibv_wc next(ibv_cq* cq) {
    ibv_wc completion{};
    wait_until("a completion", [&] { return ibv_poll_cq(cq, 1, &completion) != 0; });
    return completion;
  }
  void expect_sent(ibv_wc_status status = IBV_WC_SUCCESS) {
    EXPECT_EQ(name_of(next(send_cq_.get()).status), name_of(status));
  }

  /// Of the links that are made from now on.
  void give_up_soon() { not_ready_retries_ = 1; }

  Buffer& near() { return *near_; }
  Buffer& far() { return *far_; }
  ibv_xrcd* domain() { return domain_.get(); }

 private:
  std::uint8_t not_ready_retries_ = 7;  // for ever
  Domain domain_;
  core::Handle<ibv_pd> pd_;
  core::Handle<ibv_pd> sender_pd_;
  std::optional<Buffer> near_;
  std::optional<Buffer> far_;
  core::Handle<ibv_cq> send_cq_;
};

TEST_F(XrcTest, EachMessageGoesToTheReceiveQueueThatItNames) {
  Queue first = make_queue();
  Queue second = make_queue();
  Link link = make_link();
  Dice dice;
  for (std::uint64_t id = 0; id < 40; ++id) {
    Queue& wanted = dice.between(0, 1) ? first : second;
    near().set_word(100 + id);
    wanted.post(id, {far().piece(0, 64)});
    post(link, id % 3 ? send({near().piece(0, 8)}) : send({near().piece(0, 8)}).inlined(), wanted.number);
    const ibv_wc received = next(wanted.cq.get());
    ASSERT_EQ(name_of(received.status), name_of(IBV_WC_SUCCESS));
    EXPECT_EQ(received.wr_id, id);
    EXPECT_EQ(received.opcode, IBV_WC_RECV);
    EXPECT_EQ(received.qp_num, link.receiver->qp_num);
    EXPECT_EQ(received.src_qp, link.sender->qp_num);
    EXPECT_EQ(far().word(), 100 + id);
    expect_sent();
  }
}

TEST_F(XrcTest, ManyConnectionsShareOneReceiveQueue) {
  Queue queue = make_queue();
  std::vector<Link> links;
  for (int i = 0; i < 5; ++i) links.push_back(make_link());
  for (std::uint64_t id = 0; id < 20; ++id) queue.post(id, {far().piece(id * 8, 8)});
  for (std::uint64_t i = 0; i < 20; ++i) {
    Link& link = links[i % links.size()];
    near().set_word(i);
    post(link, send({near().piece(0, 8)}), queue.number);
    const ibv_wc received = next(queue.cq.get());
    EXPECT_EQ(received.qp_num, link.receiver->qp_num);
    EXPECT_EQ(far().word(received.wr_id * 8), i);
    expect_sent();
  }
}

TEST_F(XrcTest, LongMessagesAndImmediateValuesArrive) {
  Queue queue = make_queue();
  Link link = make_link();
  Dice dice;
  dice.fill(near().bytes());
  for (const std::size_t length : {std::size_t{0}, std::size_t{49}, std::size_t{5000}, buffer_size}) {
    queue.post(1, {far().piece()});
    post(link, send_with_imm({near().piece(0, length)}, 7), queue.number);
    const ibv_wc received = next(queue.cq.get());
    ASSERT_EQ(name_of(received.status), name_of(IBV_WC_SUCCESS));
    EXPECT_EQ(received.byte_len, length);
    EXPECT_EQ(ntohl(received.imm_data), 7U);
    expect_equal(far().bytes(0, length), near().bytes(0, length));
    expect_sent();
  }
}

TEST_F(XrcTest, MemoryOfTheReceiveQueuesDomainIsWrittenReadAndCountedIn) {
  Queue queue = make_queue();
  Link link = make_link();
  near().fill(0x21);
  post(link, write({near().piece(0, 100)}, far().remote(0)), 0);
  expect_sent();
  expect_equal(far().bytes(0, 100), near().bytes(0, 100));
  queue.post(4, {});
  post(link, write_with_imm({near().piece(0, 100)}, far().remote(200), 9), queue.number);
  const ibv_wc received = next(queue.cq.get());
  EXPECT_EQ(received.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
  EXPECT_EQ(ntohl(received.imm_data), 9U);
  expect_sent();
  far().set_word(50, 1000);
  post(link, fetch_add(near().piece(0, 8), far().remote(1000), 5), 0);
  expect_sent();
  EXPECT_EQ(far().word(1000), 55U);
  post(link, read({near().piece(8, 8)}, far().remote(1000)), 0);
  expect_sent();
  EXPECT_EQ(near().word(8), 55U);
}

TEST_F(XrcTest, AnEmptyReceiveQueueMeansReceiverNotReady) {
  Queue queue = make_queue();
  give_up_soon();
  Link link = make_link();
  post(link, send({near().piece(0, 8)}), queue.number);
  expect_sent(IBV_WC_RNR_RETRY_EXC_ERR);
}

TEST_F(XrcTest, AReceiveQueueThatIsNotThereIsRefused) {
  Queue queue = make_queue();
  for (const std::uint32_t number : {queue.number + 1, 0U, 0xff'ffffU}) {
    Link link = make_link();
    post(link, send({near().piece(0, 8)}), number);
    expect_sent(IBV_WC_REM_INV_REQ_ERR);
  }
  ibv_wc none{};
  EXPECT_EQ(ibv_poll_cq(queue.cq.get(), 1, &none), 0);
}

TEST_F(XrcTest, AReceiveQueueMayGoWhileItsSendersStay) {
  Queue oldest = make_queue();
  Link link = make_link();
  {
    Queue queue = make_queue();
    queue.post(1, {far().piece(0, 8)});
    post(link, send({near().piece(0, 8)}), queue.number);
    EXPECT_EQ(next(queue.cq.get()).wr_id, 1U);
    expect_sent();
  }
  oldest.post(2, {far().piece(0, 8)});
  post(link, send({near().piece(0, 8)}), oldest.number);
  EXPECT_EQ(next(oldest.cq.get()).wr_id, 2U);
  expect_sent();
}

// Each thread polls its own queue alone; whoever comes first makes the progress of both.
TEST_F(XrcTest, TwoThreadsTakeFromTwoReceiveQueues) {
  Queue first = make_queue();
  Queue second = make_queue();
  Link link = make_link();
  const std::uint64_t count = quirks().rounds;
  const auto take = [&](Queue& queue) {
    for (std::uint64_t id = 0; id < count; ++id) {
      EXPECT_EQ(next(queue.cq.get()).wr_id, id);
      queue.post(id + 8, {});
    }
  };
  for (std::uint64_t id = 0; id < 8; ++id) {
    first.post(id, {});
    second.post(id, {});
  }
  std::thread one{[&] { take(first); }};
  std::thread other{[&] { take(second); }};
  for (std::uint64_t i = 0; i < count; ++i) {
    for (const Queue* queue : {&first, &second}) {
      post(link, send({}), queue->number);
      expect_sent();
    }
  }
  one.join();
  other.join();
}

TEST_F(XrcTest, ABatchNamesItsReceiveQueues) {
  Queue first = make_queue();
  Queue second = make_queue();
  Link link = make_link(IBV_QP_EX_WITH_SEND);
  first.post(1, {far().piece(0, 8)});
  second.post(2, {far().piece(8, 8)});
  ibv_qp_ex* const qp = device().qp_to_qp_ex(link.sender.get());
  ASSERT_NE(qp, nullptr);
  const ibv_sge piece = near().piece(0, 8);
  qp->wr_flags = IBV_SEND_SIGNALED;
  ibv_wr_start(qp);
  for (const std::uint32_t number : {first.number, second.number}) {
    ibv_wr_send(qp);
    ibv_wr_set_xrc_srqn(qp, number);
    ibv_wr_set_sge(qp, piece.lkey, piece.addr, piece.length);
  }
  ASSERT_EQ(ibv_wr_complete(qp), 0);
  EXPECT_EQ(next(first.cq.get()).wr_id, 1U);
  EXPECT_EQ(next(second.cq.get()).wr_id, 2U);
  expect_sent();
  expect_sent();
}

TEST_F(XrcTest, NeitherHalfTakesReceivesOfItsOwn) {
  Queue queue = make_queue();
  Link link = make_link();
  for (ibv_qp* const qp : {link.sender.get(), link.receiver.get()}) {
    ibv_recv_wr request{};
    ibv_recv_wr* bad = nullptr;
    EXPECT_EQ(ibv_post_recv(qp, &request, &bad), EINVAL);
    EXPECT_EQ(bad, &request);
  }
}

TEST_F(XrcTest, NoOtherQueuePairTakesFromItsReceiveQueues) {
  Queue queue = make_queue();
  EXPECT_THROW((Endpoint{device(), {.srq = queue.srq.get()}}), std::system_error);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(XrcTest, WhatItConsistsOfOutlivesWhatUsesIt) {
  Queue queue = make_queue();
  EXPECT_EQ(ibv_close_xrcd(domain()), EBUSY);
  EXPECT_EQ(device().destroy_cq(queue.cq.get()), EBUSY);
}

TEST_F(XrcTest, ADomainIsItsFiles) {
  char name[] = "/tmp/verbena-xrc-XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  unlink(name);
  EXPECT_EQ(open(fd, 0), nullptr);
  EXPECT_EQ(errno, EAGAIN);
  const Domain first{open(fd, O_CREAT)};
  ASSERT_TRUE(first);
  const Domain second{open(fd, 0)};
  EXPECT_TRUE(second);
  EXPECT_EQ(open(fd, O_CREAT | O_EXCL), nullptr);
  EXPECT_EQ(errno, EEXIST);
  close(fd);
}

}  // namespace
}  // namespace verbena::test
