// SPDX-License-Identifier: Apache-2.0
// The state table against ibv_modify_qp(3). Devices are held to it in tests/device/states_test.cc.
#include "core/queue_pair_states.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>

namespace verbena::core {
namespace {

constexpr std::array types{IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_XRC_SEND, IBV_QPT_XRC_RECV};
constexpr std::array states{IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS,
                            IBV_QPS_SQD,   IBV_QPS_SQE,  IBV_QPS_ERR};

int required(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to) {
  const auto transition = find_transition(type, from, to);
  return transition ? transition->required : -1;
}

TEST(QueuePairStatesTest, RequiredAttributesAreThoseOfTheManualPage) {
  EXPECT_EQ(required(IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT),
            IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  EXPECT_EQ(required(IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_RTR), IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                                                                 IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
                                                                 IBV_QP_MIN_RNR_TIMER);
  EXPECT_EQ(required(IBV_QPT_RC, IBV_QPS_RTR, IBV_QPS_RTS),
            IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_TIMEOUT);
  EXPECT_EQ(required(IBV_QPT_UC, IBV_QPS_INIT, IBV_QPS_RTR),
            IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN);
  EXPECT_EQ(required(IBV_QPT_UC, IBV_QPS_RTR, IBV_QPS_RTS), IBV_QP_SQ_PSN);
  EXPECT_EQ(required(IBV_QPT_XRC_SEND, IBV_QPS_INIT, IBV_QPS_RTR),
            IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN);
  EXPECT_EQ(required(IBV_QPT_XRC_RECV, IBV_QPS_INIT, IBV_QPS_RTR),
            IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
                IBV_QP_MIN_RNR_TIMER);
  EXPECT_EQ(required(IBV_QPT_XRC_SEND, IBV_QPS_RTR, IBV_QPS_RTS),
            IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_TIMEOUT);
  EXPECT_EQ(required(IBV_QPT_XRC_RECV, IBV_QPS_RTR, IBV_QPS_RTS), IBV_QP_SQ_PSN | IBV_QP_TIMEOUT);
  EXPECT_EQ(required(IBV_QPT_UD, IBV_QPS_RESET, IBV_QPS_INIT), IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY);
  EXPECT_EQ(required(IBV_QPT_UD, IBV_QPS_INIT, IBV_QPS_RTR), 0);
  EXPECT_EQ(required(IBV_QPT_UD, IBV_QPS_RTR, IBV_QPS_RTS), IBV_QP_SQ_PSN);
}

TEST(QueuePairStatesTest, ResetAndErrorAreReachableFromEverywhereButErrorFromReset) {
  for (const ibv_qp_type type : types) {
    for (const ibv_qp_state from : states) {
      EXPECT_EQ(required(type, from, IBV_QPS_RESET), 0) << to_string(from);
      EXPECT_EQ(required(type, from, IBV_QPS_ERR), from == IBV_QPS_RESET ? -1 : 0) << to_string(from);
    }
  }
}

TEST(QueuePairStatesTest, NoStateIsSkipped) {
  for (const ibv_qp_type type : types) {
    EXPECT_FALSE(find_transition(type, IBV_QPS_RESET, IBV_QPS_RTR));
    EXPECT_FALSE(find_transition(type, IBV_QPS_RESET, IBV_QPS_RTS));
    EXPECT_FALSE(find_transition(type, IBV_QPS_INIT, IBV_QPS_RTS));
    EXPECT_FALSE(find_transition(type, IBV_QPS_RTR, IBV_QPS_SQD));
    EXPECT_FALSE(find_transition(type, IBV_QPS_ERR, IBV_QPS_INIT));
  }
}

TEST(QueuePairStatesTest, NobodyGoesBackwardsButThroughReset) {
  for (const ibv_qp_type type : types) {
    EXPECT_FALSE(find_transition(type, IBV_QPS_RTR, IBV_QPS_INIT));
    EXPECT_FALSE(find_transition(type, IBV_QPS_RTS, IBV_QPS_RTR));
    EXPECT_FALSE(find_transition(type, IBV_QPS_RTS, IBV_QPS_INIT));
  }
}

TEST(QueuePairStatesTest, ASendQueueErrorIsMendableWhereThereIsOne) {
  EXPECT_FALSE(find_transition(IBV_QPT_RC, IBV_QPS_SQE, IBV_QPS_RTS));
  EXPECT_TRUE(find_transition(IBV_QPT_UC, IBV_QPS_SQE, IBV_QPS_RTS));
  EXPECT_TRUE(find_transition(IBV_QPT_UD, IBV_QPS_SQE, IBV_QPS_RTS));
}

TEST(QueuePairStatesTest, TheStatesThatKeepThemselves) {
  for (const ibv_qp_type type : types) {
    for (const ibv_qp_state state : states) {
      const bool keeps = state != IBV_QPS_RTR && state != IBV_QPS_SQE;
      EXPECT_EQ(find_transition(type, state, state).has_value(), keeps) << to_string(state);
    }
  }
}

TEST(QueuePairStatesTest, AMaskIsCheckedBothWays) {
  const int needed = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
  const auto check = [](int mask) { return check_transition(IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT, mask); };
  EXPECT_EQ(check(IBV_QP_STATE | needed), 0);
  EXPECT_EQ(check(needed), 0);
  EXPECT_EQ(check(IBV_QP_STATE), EINVAL);
  EXPECT_EQ(check(IBV_QP_STATE | (needed & ~IBV_QP_PORT)), EINVAL);
  EXPECT_EQ(check(IBV_QP_STATE | needed | IBV_QP_QKEY), EINVAL);
}

TEST(QueuePairStatesTest, UnknownTypesAndStatesHaveNoTransition) {
  EXPECT_FALSE(find_transition(IBV_QPT_RAW_PACKET, IBV_QPS_RESET, IBV_QPS_INIT));
  EXPECT_FALSE(find_transition(IBV_QPT_RC, IBV_QPS_UNKNOWN, IBV_QPS_RESET));
  EXPECT_FALSE(find_transition(IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_UNKNOWN));
  EXPECT_STREQ(to_string(IBV_QPS_UNKNOWN), "unknown");
}

}  // namespace
}  // namespace verbena::core
