// SPDX-License-Identifier: Apache-2.0
/// What other threads have posted to a loop, until it runs it.
#pragma once

#include <atomic>
#include <cstddef>

#include "verbena/poster.h"

namespace verbena::transport {

/// A stack that posters push to and the loop takes as a whole: no pop, so no ABA, and lock-free on both
/// sides.
///
/// No lost wake-up: that the loop sleeps stands in the very word that is the list. In that word's
/// modification order a post comes before the mark, and then the loop fails to set it and doesn't sleep; or
/// after it, and then this poster has replaced the mark, knows it, and makes the descriptor readable. There
/// are no two places to be seen in a wrong order, hence no fence. Of many posts to a sleeping loop the first
/// alone makes a system call.
class Inbox {
 public:
  /// Throws Error.
  Inbox();
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  /// Any thread. False: closed.
  bool push(Posted& node) noexcept;

  // ---- The loop's thread ----
  /// Nothing to run, and not marked as asleep. Relaxed: what is missed now is seen in the next turn.
  bool is_quiet() const noexcept { return head_.load(std::memory_order_relaxed) == nullptr; }
  /// Takes the mark away and runs what was posted before, in its order; what that posts waits. How many.
  std::size_t run() noexcept;
  /// Marks the loop as asleep, until run(): from here on a post makes descriptor() readable. False: something
  /// waits.
  bool sleep() noexcept;
  /// Destroys what waits; nothing can be posted any more.
  void close() noexcept;
  /// In a forked child, inside fork(): as closed, and what waits is left alone.
  void leave_to_parent() noexcept {
    head_.store(&closed_, std::memory_order_relaxed);
  }  // there is one thread
  int descriptor() const noexcept { return descriptor_; }
  void consume_event() noexcept;

 private:
  static std::size_t act_in_order(Posted* newest, bool run) noexcept;

  static Posted asleep_;  // marks, by their addresses
  static Posted closed_;

  static constexpr std::size_t cache_line = 64;
  // Alone in its line: the loop reads it every turn, and keeps the line until somebody posts.
  alignas(cache_line) std::atomic<Posted*> head_{nullptr};
  alignas(cache_line) const int descriptor_;  // an eventfd
};

}  // namespace verbena::transport
