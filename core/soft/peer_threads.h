// SPDX-License-Identifier: Apache-2.0
/// What /proc tells of another process's threads: whether they are stopped, and whether they have left a
/// system call.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>

namespace verbena::core::soft {

/// True while the process is stopped by a signal or a debugger.
bool is_stopped(pid_t pid) noexcept;

/// Tells when every thread has left the kernel's copy (process_vm_writev) that it may have been in when this
/// was made. A copy runs on a processor or waits uninterruptibly; a thread is stopped only on its way out of
/// the kernel.
class KernelCopies {
 public:
  explicit KernelCopies(pid_t pid);
  /// Looks again.
  bool all_ended();

 private:
  pid_t pid_;
  std::unordered_map<pid_t, std::uint64_t> suspects_;  // by thread: how long it had run, in ns
};

}  // namespace verbena::core::soft
