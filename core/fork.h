// SPDX-License-Identifier: Apache-2.0
/// What becomes of this process's objects in a child that it forks: they are the parent's there, and nothing
/// that a child does with them may reach what it shares with its parent: rings, keys, sockets, queue pairs.
///
/// By pthread_atfork, so fork() is seen; clone(2) and _Fork() are not. A child that goes on to exec needs
/// none of it, and vfork and posix_spawn don't run it.
#pragma once

#include <atomic>
#include <cstdint>

namespace verbena::core {

namespace detail {
/// One more in each child than in its parent. Written in the child before it has a second thread.
extern std::atomic<std::uint32_t> fork_generation;
}  // namespace detail

/// The process in which an object was made. Cost of asking: a load of a line that is hardly ever written.
class OfProcess {
 public:
  bool is_this() const noexcept { return generation_ == now(); }

 private:
  // Relaxed: a process's own threads all began after it was written.
  static std::uint32_t now() noexcept { return detail::fork_generation.load(std::memory_order_relaxed); }

  std::uint32_t generation_ = now();
};

/// Calls `act(self)` in each forked child. The last member of what it acts on, so that this is whole. Any
/// thread may make and destroy it.
class ForkNotice {
 public:
  /// In the child, inside fork(), in its one thread: other threads of the parent may have been in the middle
  /// of anything. So it takes no lock, allocates and frees nothing, and touches nothing shared with the
  /// parent.
  using Act = void(void* self) noexcept;
  ForkNotice(Act* act, void* self) noexcept;
  ~ForkNotice();
  ForkNotice(const ForkNotice&) = delete;
  ForkNotice& operator=(const ForkNotice&) = delete;

 private:
  friend struct ForkNotices;
  Act* act_;
  void* self_;
  ForkNotice* next_ = nullptr;
  ForkNotice* before_ = nullptr;
};

/// A descriptor that a forked child closes at once, so that the parent's death doesn't go unnoticed as long
/// as the child lives. Destroyed before the descriptor is closed, as its number may be another's then.
class ClosedInChildren {
 public:
  ClosedInChildren() noexcept = default;
  explicit ClosedInChildren(int descriptor) noexcept;
  ClosedInChildren(ClosedInChildren&& other) noexcept;
  ClosedInChildren& operator=(ClosedInChildren&& other) noexcept;
  ~ClosedInChildren();

 private:
  int descriptor_ = -1;
};

}  // namespace verbena::core
