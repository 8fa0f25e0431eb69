// SPDX-License-Identifier: Apache-2.0
/// The queue pair state table of `ibv_modify_qp(3)`: which transitions there are, which attributes each needs
/// and which it allows. Three read it: `QueuePair` builds its attribute mask from it, the software device
/// validates with it, and a test walks every pair of states.
#pragma once

#include <infiniband/verbs.h>

#include <optional>

namespace verbena::core {

struct Transition {
  int required;  ///< ibv_qp_attr_mask bits that must be given, IBV_QP_STATE aside
  int optional;  ///< bits that may be given besides
};

/// The transition of a QP of `type` (RC, UC, UD, XRC) from one state to another; nullopt where there is none.
std::optional<Transition> find_transition(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to) noexcept;

/// 0 if `mask` suits the transition, else EINVAL.
int check_transition(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to, int mask) noexcept;

const char* to_string(ibv_qp_state state) noexcept;

}  // namespace verbena::core
