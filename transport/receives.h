// SPDX-License-Identifier: Apache-2.0
/// The receives of a loop: one shared receive queue, and as many buffers in it as the connected peers may
/// fill, or as a software device needs ready.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/buffer_pool.h"
#include "core/device.h"
#include "core/handle.h"
#include "transport/budget.h"
#include "verbena/options.h"

namespace verbena::transport {

/// A software device finds the messages that have no receive yet where they are, in its peers' rings, when
/// the next ones are posted: nothing is refused or sent again. So many are ready, whatever the number of
/// peers: what one poll takes in, eight times. Each one is memory that is touched, a queue is a ring, and a
/// short ring stays in the caches.
inline constexpr std::size_t ready_receives = 256;

/// Invariant: ready (posted, with a message in them that nobody keeps, or about to be posted again) are
/// receives_per_peer() a connected peer and `repost_batch` beside, less those that are held: so credits never
/// exceed what is posted. With a software device no more than `ready_receives` of them are, and the others
/// are in the pool, which has one for each that is missing. What belongs to peers to come rests there as
/// well.
class Receives {
 public:
  Receives(core::Device& device, ibv_pd* pd, const Options& options);

  /// Before a peer may send, and once it can send no more.
  void add_peer() noexcept;
  void remove_peer() noexcept;
  /// A message has been dealt with.
  void give_back(std::byte* buffer) noexcept { returned_.push_back(buffer); }
  /// It is given back once it has been released as often as it was held.
  void hold(std::byte* buffer) noexcept {
    if (holds_[pool_.index_of(buffer)]++ != 0) return;
    ++held_;
    fill();  // here: where all are held, none is given back
  }
  void release(std::byte* buffer) noexcept {
    if (--holds_[pool_.index_of(buffer)] != 0) return;
    --held_;
    give_back(buffer);
  }
  /// Posts what was given back, a batch at a time. Call it once a turn.
  void post_if_due() noexcept {
    if (returned_.size() >= repost_batch) post();
  }

  ibv_srq* get() const noexcept { return queue_.get(); }
  std::size_t pinned_bytes() const noexcept { return pool_.pinned_bytes(); }

 private:
  std::size_t wanted() const noexcept {
    return std::min(most_ready_, entitled_ - std::min(entitled_, held_));
  }
  std::size_t ready() const noexcept { return taken_ - held_; }
  void fill() noexcept;
  void post() noexcept;

  const std::size_t most_ready_;
  core::Handle<ibv_srq> queue_;
  core::BufferPool pool_;
  std::size_t per_peer_;
  std::size_t entitled_ = repost_batch;  // the connected peers' and the batch
  std::size_t taken_ = 0;                // from the pool
  std::size_t held_ = 0;                 // of them
  std::vector<std::byte*> returned_;     // to be posted again
  std::vector<std::uint32_t> holds_;     // a buffer
};

}  // namespace verbena::transport
