// SPDX-License-Identifier: Apache-2.0
/// A verbs object whose place is large enough for its extended form, which begins with the same fields: an
/// ibv_cq that may become an ibv_cq_ex, an ibv_qp that may become an ibv_qp_ex.
#pragma once

#include <cstddef>

namespace verbena::core::soft {

template <class Plain, class Extended>
struct ExtendedFace : Plain {
  static_assert(offsetof(Extended, comp_mask) == sizeof(Plain));
  alignas(Extended) std::byte extension[sizeof(Extended) - sizeof(Plain)];
};

}  // namespace verbena::core::soft
