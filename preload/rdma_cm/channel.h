// SPDX-License-Identifier: Apache-2.0
/// An open /dev/infiniband/rdma_cm: a descriptor that is readable while something has come for one of its
/// ids, and the events that the program hasn't fetched.
///
/// The descriptor is an epoll set: of its ids' sockets, of a signal for events that are already there, and of
/// the kernel's own rdma_cm where the machine has it. So nobody has to work in the background: what has come
/// is taken in when the program asks for an event. Readable means that there may be one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "core/fork.h"
#include "core/soft/shared_file.h"
#include "preload/rdma_cm/event.h"
#include "preload/rdma_cm/kernel.h"

namespace verbena::preload::rdma_cm {

class Channel {
 public:
  /// `descriptor`: an epoll set, which the program closes. Throws std::system_error.
  explicit Channel(int descriptor);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  /// False in a forked child: the sockets are its parent's.
  bool is_of_this_process() const noexcept { return process_.is_this(); }

  // ---- Guarded by the manager's mutex ----
  void watch(int socket, Handle handle);
  void forget(int socket) noexcept;
  /// The handles whose sockets have something now. True where the kernel has something, too.
  bool for_each_ready(const std::function<void(Handle)>& act);
  /// Nothing where the machine has no rdma_cm of its own.
  const std::optional<Kernel>& kernel() const noexcept { return kernel_; }

  void push(const Event& event);
  std::optional<Event> pop();
  /// Takes out the events that `chosen` wants, oldest first.
  std::deque<Event> extract(const std::function<bool(const Event&)>& chosen);

  // ---- Without it ----
  /// Waits until something comes. 0; EAGAIN where the descriptor is non-blocking; EINTR.
  int wait() const;  // a cancellation point

 private:
  void signal(bool on) noexcept;

  const int descriptor_;
  const core::OfProcess process_;
  core::soft::Descriptor pending_;  // an event descriptor: readable while events_ isn't empty
  std::optional<Kernel> kernel_ = Kernel::open();
  std::deque<Event> events_;
};

}  // namespace verbena::preload::rdma_cm
