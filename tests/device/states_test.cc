// SPDX-License-Identifier: Apache-2.0
// The state diagram of a queue pair, every pair of states, and what may be posted in which.
#include <cerrno>
#include <vector>

#include "core/queue_pair_states.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

constexpr std::array states{IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_ERR};

class StatesTest : public DeviceTest {
 protected:
  /// A queue pair brought to `state` by the shortest way, towards `peer`.
  void bring(Endpoint& endpoint, ibv_qp_state state, Endpoint& peer) {
    if (state == IBV_QPS_RESET) return;
    endpoint.to_init();
    if (state == IBV_QPS_INIT) return;
    if (state != IBV_QPS_ERR) {
      endpoint.to_rtr(peer.facts());
      if (state == IBV_QPS_RTR) return;
      endpoint.to_rts();
      if (state == IBV_QPS_RTS) return;
    }
    ASSERT_EQ(endpoint.to(state), 0);
  }

  /// Values that suit every transition, so that only the mask decides.
  ibv_qp_attr good_values(Endpoint& peer, ibv_qp_state to) {
    ibv_qp_attr attr{};
    const EndpointFacts facts = peer.facts();
    attr.qp_state = to;
    attr.port_num = 1;
    attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
    attr.qkey = 7;
    attr.path_mtu = IBV_MTU_1024;
    attr.dest_qp_num = facts.qp_number;
    attr.timeout = 14;
    attr.retry_cnt = 3;
    attr.rnr_retry = 3;
    attr.max_rd_atomic = 1;
    attr.max_dest_rd_atomic = 1;
    attr.min_rnr_timer = 12;
    attr.ah_attr.port_num = 1;
    attr.ah_attr.is_global = 1;
    attr.ah_attr.grh.dgid = facts.gid;
    attr.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(device().preferred_gid_index(1));
    attr.ah_attr.grh.hop_limit = 64;
    return attr;
  }

  int modify(Endpoint& endpoint, ibv_qp_state to, int mask, Endpoint& peer) {
    ibv_qp_attr attr = good_values(peer, to);
    return device().modify_qp(endpoint.qp(), attr, IBV_QP_STATE | mask);
  }

  /// Only EOPNOTSUPP says that a device lacks a service type.
  bool has(ibv_qp_type type) {
    try {
      const Endpoint endpoint{device(), {.type = type}};
      return true;
    } catch (const std::system_error& error) {
      if (error.code().value() == EOPNOTSUPP) return false;
      throw;
    }
  }

  void walk_every_pair(ibv_qp_type type);
};

std::string arrow(ibv_qp_state from, ibv_qp_state to) {
  return std::string{core::to_string(from)} + " to " + core::to_string(to);
}

void StatesTest::walk_every_pair(ibv_qp_type type) {
  const EndpointOptions options{.type = type};
  for (const ibv_qp_state from : states) {
    for (const ibv_qp_state to : states) {
      SCOPED_TRACE(arrow(from, to));
      Endpoint peer{device(), options};
      Endpoint endpoint{device(), options};
      peer.to_init();
      bring(endpoint, from, peer);
      const auto transition = core::find_transition(type, from, to);
      const int error = modify(endpoint, to, transition ? transition->required : 0, peer);
      EXPECT_EQ(error, transition ? 0 : EINVAL);
      EXPECT_EQ(endpoint.state(), transition ? to : from);
    }
  }
}

TEST_F(StatesTest, ReliableConnectionTakesEveryArrowOfTheTableAndNoOther) {
  walk_every_pair(IBV_QPT_RC);
}

TEST_F(StatesTest, UnreliableConnectionTakesEveryArrowOfTheTableAndNoOther) {
  if (!has(IBV_QPT_UC)) GTEST_SKIP() << "the device has no unreliable connections";
  walk_every_pair(IBV_QPT_UC);
}

TEST_F(StatesTest, DatagramTakesEveryArrowOfTheTableAndNoOther) {
  if (!has(IBV_QPT_UD)) GTEST_SKIP() << "the device has no datagrams";
  walk_every_pair(IBV_QPT_UD);
}

TEST_F(StatesTest, EachRequiredAttributeIsRequired) {
  Endpoint peer{device()};
  for (const ibv_qp_state from : states) {
    for (const ibv_qp_state to : states) {
      const auto transition = core::find_transition(IBV_QPT_RC, from, to);
      if (!transition || transition->required == 0) continue;
      Endpoint endpoint{device()};
      bring(endpoint, from, peer);
      for (int bit = 1; bit <= IBV_QP_DEST_QPN; bit <<= 1) {
        if ((transition->required & bit) == 0) continue;
        SCOPED_TRACE(arrow(from, to) + " without attribute " + std::to_string(bit));
        EXPECT_EQ(modify(endpoint, to, transition->required & ~bit, peer), EINVAL);
        EXPECT_EQ(endpoint.state(), from);
      }
    }
  }
}

TEST_F(StatesTest, AnAttributeThatATransitionDoesNotAllowIsRefused) {
  Endpoint peer{device()};
  for (const ibv_qp_state from : states) {
    for (const ibv_qp_state to : states) {
      const auto transition = core::find_transition(IBV_QPT_RC, from, to);
      if (!transition) continue;
      SCOPED_TRACE(arrow(from, to));
      Endpoint endpoint{device()};
      bring(endpoint, from, peer);
      EXPECT_EQ(modify(endpoint, to, transition->required | IBV_QP_QKEY, peer), EINVAL);
      EXPECT_EQ(endpoint.state(), from);
    }
  }
}

TEST_F(StatesTest, ModifyWithoutStateKeepsTheState) {
  Pair pair{device()};
  ibv_qp_attr attr{};
  attr.min_rnr_timer = 5;
  EXPECT_EQ(device().modify_qp(pair.a.qp(), attr, IBV_QP_MIN_RNR_TIMER), 0);
  EXPECT_EQ(pair.a.state(), IBV_QPS_RTS);
}

TEST_F(StatesTest, QueryTellsWhatWasSet) {
  Pair pair{device()};
  ibv_qp_attr attr{};
  ibv_qp_init_attr init{};
  const int mask = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_DEST_QPN |
                   IBV_QP_CAP | IBV_QP_PATH_MTU | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_MAX_DEST_RD_ATOMIC |
                   IBV_QP_MIN_RNR_TIMER;
  ASSERT_EQ(device().query_qp(pair.a.qp(), attr, mask, init), 0);
  const EndpointOptions asked;
  EXPECT_EQ(attr.timeout, asked.ack_timeout_exponent);
  EXPECT_EQ(attr.retry_cnt, asked.retries);
  EXPECT_EQ(attr.rnr_retry, asked.receiver_not_ready_retries);
  EXPECT_EQ(attr.min_rnr_timer, asked.receiver_not_ready_timer);
  EXPECT_EQ(attr.dest_qp_num, pair.b.number());
  EXPECT_EQ(attr.path_mtu, IBV_MTU_1024);
  EXPECT_GE(attr.cap.max_send_wr, asked.send_depth);
  EXPECT_GE(attr.cap.max_recv_wr, asked.receive_depth);
  EXPECT_EQ(init.qp_type, IBV_QPT_RC);
  EXPECT_EQ(init.send_cq, pair.a.send_cq());
  EXPECT_EQ(init.recv_cq, pair.a.receive_cq());
}

TEST_F(StatesTest, SendsAreRefusedBeforeReadyToSend) {
  for (const ibv_qp_state state : {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR}) {
    SCOPED_TRACE(core::to_string(state));
    Endpoint peer{device()};
    Endpoint endpoint{device()};
    peer.to_init();
    bring(endpoint, state, peer);
    EXPECT_EQ(endpoint.try_post(send({})), EINVAL);
    EXPECT_TRUE(endpoint.nothing_sent());
  }
}

TEST_F(StatesTest, ReceivesAreRefusedInResetOnly) {
  for (const ibv_qp_state state : states) {
    SCOPED_TRACE(core::to_string(state));
    Endpoint peer{device()};
    Endpoint endpoint{device()};
    peer.to_init();
    bring(endpoint, state, peer);
    const bool refused = state == IBV_QPS_RESET;
    EXPECT_EQ(endpoint.try_post_receive({}), refused ? EINVAL : 0);
    EXPECT_EQ(endpoint.names_refused_receive(), refused && quirks().names_receive_refused_by_state);
  }
}

TEST_F(StatesTest, AReceivePostedInInitIsUsedAfterConnecting) {
  Endpoint a{device()};
  Endpoint b{device()};
  Buffer& from = a.buffer(64);
  Buffer& into = b.buffer(64);
  from.fill(0x5a);
  a.to_init();
  b.to_init();
  b.post_receive(into.piece(), 9);
  a.to_rtr(b.facts());
  b.to_rtr(a.facts());
  a.to_rts();
  a.post(send({from.piece()}));
  expect_success(a.sent(), IBV_WC_SEND, 0, a);
  expect_success(b.received(), IBV_WC_RECV, 9, b);
  expect_equal(into.bytes(), from.bytes());
}

TEST_F(StatesTest, AReadyToReceiveEndpointAnswersOneSidedOperations) {
  Endpoint a{device()};
  Endpoint b{device()};
  Buffer& local = a.buffer(64);
  Buffer& target = b.buffer(64);
  local.fill(0x77);
  a.to_init();
  b.to_init();
  b.to_rtr(a.facts());
  a.to_rtr(b.facts());
  a.to_rts();
  a.post(write({local.piece()}, target.remote()));
  expect_success(a.sent(), IBV_WC_RDMA_WRITE, 0, a);
  expect_equal(target.bytes(), local.bytes());
}

TEST_F(StatesTest, AQueuePairIsReusableAfterReset) {
  Pair pair{device()};
  for (int round = 0; round < 3; ++round) {
    Buffer& from = pair.a.buffer(32);
    Buffer& into = pair.b.buffer(32);
    from.fill(static_cast<unsigned char>(round + 1));
    pair.b.post_receive(into.piece(), 1);
    pair.a.post(send({from.piece()}));
    expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
    expect_success(pair.b.received(), IBV_WC_RECV, 1, pair.b);
    expect_equal(into.bytes(), from.bytes());
    ASSERT_EQ(pair.a.to(IBV_QPS_RESET), 0);
    ASSERT_EQ(pair.b.to(IBV_QPS_RESET), 0);
    connect(pair.a, pair.b);
  }
}

TEST_F(StatesTest, ResetForgetsReceives) {
  Pair pair{device()};
  Buffer& into = pair.b.buffer(32);
  pair.b.post_receive(into.piece(), 1);
  ASSERT_EQ(pair.b.to(IBV_QPS_RESET), 0);
  ASSERT_EQ(pair.a.to(IBV_QPS_RESET), 0);
  connect(pair.a, pair.b);
  pair.b.post_receive(into.piece(), 2);
  pair.a.post(send({}));
  expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  expect_success(pair.b.received(), IBV_WC_RECV, 2, pair.b);
}

}  // namespace
}  // namespace verbena::test
