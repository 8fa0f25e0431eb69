// SPDX-License-Identifier: Apache-2.0
/// The receives of a loop: one shared receive queue, and as many buffers in it as the connected peers may
/// fill.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <vector>

#include "core/buffer_pool.h"
#include "core/device.h"
#include "core/handle.h"
#include "transport/budget.h"
#include "verbena/options.h"

namespace verbena::transport {

/// Invariant: posted, or with a message in them, or about to be posted again, are receives_per_peer() a
/// connected peer and `repost_batch` beside: so credits never exceed what is posted. Those of other peers
/// rest in the pool: a queue is a ring, and a short ring stays in the caches.
class Receives {
 public:
  Receives(core::Device& device, ibv_pd* pd, const Options& options);

  /// Before a peer may send, and once it can send no more.
  void add_peer() noexcept;
  void remove_peer() noexcept;
  /// A message has been dealt with.
  void give_back(std::byte* buffer) noexcept { returned_.push_back(buffer); }
  /// It is given back once it has been released as often as it was held.
  void hold(std::byte* buffer) noexcept { ++holds_[pool_.index_of(buffer)]; }
  void release(std::byte* buffer) noexcept {
    if (--holds_[pool_.index_of(buffer)] == 0) give_back(buffer);
  }
  /// Posts what was given back, a batch at a time. Call it once a turn.
  void post_if_due() noexcept {
    if (returned_.size() >= repost_batch) post();
  }

  ibv_srq* get() const noexcept { return queue_.get(); }
  std::size_t pinned_bytes() const noexcept { return pool_.pinned_bytes(); }

 private:
  void add(std::size_t count) noexcept;
  void post() noexcept;

  core::Handle<ibv_srq> queue_;
  core::BufferPool pool_;
  std::size_t per_peer_;
  std::size_t surplus_ = 0;           // of peers that have gone: so many go back to the pool
  std::vector<std::byte*> returned_;  // to be posted again
  std::vector<std::uint32_t> holds_;  // a buffer
};

}  // namespace verbena::transport
