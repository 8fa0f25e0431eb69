// SPDX-License-Identifier: Apache-2.0
#include "core/queue_pair_states.h"

#include <array>
#include <cerrno>

namespace verbena::core {
namespace {

/// One arrow of the state diagram, with what each service type needs and allows on the way.
struct Row {
  ibv_qp_state from;
  ibv_qp_state to;
  Transition rc;
  Transition uc;
  Transition ud;
  Transition xrc_send;
  Transition xrc_receive;
};

constexpr int connected_init = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
constexpr int datagram_init = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY;

constexpr int uc_to_rtr = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
constexpr int rc_to_rtr = uc_to_rtr | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
constexpr int connected_to_rtr_may = IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX;

constexpr int rc_to_rts =
    IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
constexpr int uc_to_rts_may =
    IBV_QP_CUR_STATE | IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PATH_MIG_STATE;
constexpr int rc_to_rts_may = uc_to_rts_may | IBV_QP_MIN_RNR_TIMER;
constexpr int ud_to_rts_may = IBV_QP_CUR_STATE | IBV_QP_QKEY;

constexpr int uc_drained_may =
    IBV_QP_AV | IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX | IBV_QP_PATH_MIG_STATE;
constexpr int rc_drained_may = uc_drained_may | IBV_QP_PORT | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                               IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_MAX_DEST_RD_ATOMIC |
                               IBV_QP_MIN_RNR_TIMER;

// XRC: of the two halves of a reliable connection each takes what is its own.
constexpr int xrc_receive_to_rts = IBV_QP_SQ_PSN | IBV_QP_TIMEOUT;

/// The required attributes are ibv_modify_qp(3)'s, the optional ones the InfiniBand specification's (volume
/// 1, "modify queue pair"). The arrows to RESET and ERR need nothing and stand in find_transition.
constexpr std::array<Row, 8> rows{{
    {IBV_QPS_RESET,
     IBV_QPS_INIT,
     {connected_init, 0},
     {connected_init, 0},
     {datagram_init, 0},
     {connected_init, 0},
     {connected_init, 0}},
    {IBV_QPS_INIT,
     IBV_QPS_INIT,
     {0, connected_init},
     {0, connected_init},
     {0, datagram_init},
     {0, connected_init},
     {0, connected_init}},
    {IBV_QPS_INIT,
     IBV_QPS_RTR,
     {rc_to_rtr, connected_to_rtr_may},
     {uc_to_rtr, connected_to_rtr_may},
     {0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
     {uc_to_rtr, connected_to_rtr_may},
     {rc_to_rtr, connected_to_rtr_may}},
    {IBV_QPS_RTR,
     IBV_QPS_RTS,
     {rc_to_rts, rc_to_rts_may},
     {IBV_QP_SQ_PSN, uc_to_rts_may},
     {IBV_QP_SQ_PSN, ud_to_rts_may},
     {rc_to_rts, uc_to_rts_may},
     {xrc_receive_to_rts, rc_to_rts_may}},
    {IBV_QPS_RTS,
     IBV_QPS_RTS,
     {0, rc_to_rts_may},
     {0, uc_to_rts_may},
     {0, ud_to_rts_may},
     {0, uc_to_rts_may},
     {0, rc_to_rts_may}},
    {IBV_QPS_RTS,
     IBV_QPS_SQD,
     {0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
     {0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
     {0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
     {0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
     {0, IBV_QP_EN_SQD_ASYNC_NOTIFY}},
    {IBV_QPS_SQD,
     IBV_QPS_RTS,
     {0, rc_to_rts_may},
     {0, uc_to_rts_may},
     {0, ud_to_rts_may},
     {0, uc_to_rts_may},
     {0, rc_to_rts_may}},
    {IBV_QPS_SQD,
     IBV_QPS_SQD,
     {0, rc_drained_may},
     {0, uc_drained_may},
     {0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
     {0, rc_drained_may},
     {0, rc_drained_may}},
}};

const Transition* of_type(const Row& row, ibv_qp_type type) {
  switch (type) {
    case IBV_QPT_RC:
      return &row.rc;
    case IBV_QPT_UC:
      return &row.uc;
    case IBV_QPT_UD:
      return &row.ud;
    case IBV_QPT_XRC_SEND:
      return &row.xrc_send;
    case IBV_QPT_XRC_RECV:
      return &row.xrc_receive;
    default:
      return nullptr;
  }
}

/// A send queue error stops the sends of UC and UD only; an RC queue pair goes to ERR instead.
std::optional<Transition> from_send_queue_error(ibv_qp_type type) {
  if (type == IBV_QPT_UC) return Transition{0, IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS};
  if (type == IBV_QPT_UD) return Transition{0, ud_to_rts_may};
  return std::nullopt;
}

bool is_state(ibv_qp_state state) {
  switch (state) {
    case IBV_QPS_RESET:
    case IBV_QPS_INIT:
    case IBV_QPS_RTR:
    case IBV_QPS_RTS:
    case IBV_QPS_SQD:
    case IBV_QPS_SQE:
    case IBV_QPS_ERR:
      return true;
    case IBV_QPS_UNKNOWN:
      break;
  }
  return false;
}

}  // namespace

std::optional<Transition> find_transition(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to) noexcept {
  if (!is_state(from) || !of_type(rows.front(), type)) return std::nullopt;
  if (to == IBV_QPS_RESET) return Transition{0, 0};
  // The kernel refuses RESET → ERR: nothing can be outstanding there that an error could flush.
  if (to == IBV_QPS_ERR) return from == IBV_QPS_RESET ? std::nullopt : std::optional{Transition{0, 0}};
  if (from == IBV_QPS_SQE && to == IBV_QPS_RTS) return from_send_queue_error(type);
  for (const Row& row : rows) {
    if (row.from != from || row.to != to) continue;
    return *of_type(row, type);
  }
  return std::nullopt;
}

int check_transition(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to, int mask) noexcept {
  const std::optional<Transition> transition = find_transition(type, from, to);
  if (!transition) return EINVAL;
  const int given = mask & ~IBV_QP_STATE;
  const bool enough = (given & transition->required) == transition->required;
  const bool too_much = (given & ~(transition->required | transition->optional)) != 0;
  return enough && !too_much ? 0 : EINVAL;
}

const char* to_string(ibv_qp_state state) noexcept {
  switch (state) {
    case IBV_QPS_RESET:
      return "RESET";
    case IBV_QPS_INIT:
      return "INIT";
    case IBV_QPS_RTR:
      return "RTR";
    case IBV_QPS_RTS:
      return "RTS";
    case IBV_QPS_SQD:
      return "SQD";
    case IBV_QPS_SQE:
      return "SQE";
    case IBV_QPS_ERR:
      return "ERR";
    case IBV_QPS_UNKNOWN:
      break;
  }
  return "unknown";
}

}  // namespace verbena::core
