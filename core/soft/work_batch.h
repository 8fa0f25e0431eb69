// SPDX-License-Identifier: Apache-2.0
/// Work requests that are put together by calls, from `ibv_wr_start(3)` to `ibv_wr_complete(3)`, and then
/// posted all or none.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/soft/extended_face.h"
#include "core/soft/spin_lock.h"

namespace verbena::core::soft {

struct QueuePair;

using QueuePairFace = ExtendedFace<ibv_qp, ibv_qp_ex>;
static_assert(sizeof(QueuePairFace) == sizeof(ibv_qp_ex));

/// IBV_QP_EX_WITH_* that a queue pair of that service can be asked for.
std::uint64_t buildable_operations(ibv_qp_type type) noexcept;

/// From start() to finish() or abandon() it is one thread's. It keeps its memory: once it has been as large
/// as it gets, it allocates none.
class WorkBatch {
 public:
  /// Makes `qp` an ibv_qp_ex with functions for `operations`.
  WorkBatch(QueuePair& qp, std::uint64_t operations) noexcept;

  void start() noexcept;
  /// Posts them; 0, or an errno value, and nothing has been posted.
  int finish() noexcept;
  void abandon() noexcept;

  /// The next request, with the id and the flags that the user has set; nullptr without memory.
  ibv_send_wr* begin(ibv_wr_opcode opcode) noexcept;
  /// The one begun last; nullptr where there is none.
  ibv_send_wr* current() noexcept { return requests_.empty() ? nullptr : &requests_.back().request; }
  void set_pieces(const ibv_sge* pieces, std::size_t count) noexcept;
  void set_inline(const ibv_data_buf* buffers, std::size_t count) noexcept;

 private:
  struct Entry {
    ibv_send_wr request;
    std::size_t first_piece;
  };
  void clear() noexcept;
  /// Runs what may be short of memory.
  template <class Step>
  void attempt(Step step) noexcept;

  QueuePair& qp_;
  SpinLock building_;
  int error_ = 0;  // the first one of this batch
  std::vector<Entry> requests_;
  std::vector<ibv_sge> pieces_;  // of inline bytes: where they begin in `bytes_`
  std::vector<std::byte> bytes_;
};

}  // namespace verbena::core::soft
