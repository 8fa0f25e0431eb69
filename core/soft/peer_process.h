// SPDX-License-Identifier: Apache-2.0
/// Another process on this host that queue pairs of ours are connected to (it may be this process itself).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/soft/layout.h"
#include "core/soft/shared_file.h"
#include "core/soft/spin_lock.h"

namespace verbena::core::soft {

/// A peer's completion channel, shared by the links that wake it.
using EventPointer = std::shared_ptr<const Descriptor>;

struct PeerMemory {
  bool pending;
  std::byte* base;  ///< null: not to be had
  std::size_t size;
};

/// Each side connects to the other: our `out` is their `in`. Either closing means that the process is gone.
/// Owned by the context; freed when it is gone and no queue pair points to it.
struct PeerProcess {
  explicit PeerProcess(std::uint32_t number) : block(number) {}
  ~PeerProcess() {
    for (Mapping& guard : guards_) {
      if (!gone.load(std::memory_order_relaxed)) guard.abandon();
    }
  }
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  const std::uint32_t block;
  Descriptor out;
  int in = -1;  // owned by the agent's connection
  pid_t pid = 0;
  bool same_process = false;
  bool needs_fence = false;
  std::atomic<bool> reachable{false};  ///< process_vm_readv/writev works on it
  std::atomic<bool> gone{false};
  std::uint32_t users = 0;  // queue pairs; guarded by the context's mutex

  Mapping table_mapping;
  Mapping bell_mapping;
  const PublicTable* table = nullptr;  ///< null until its hello has come

  Bell* bell(std::uint32_t completion_queue) const noexcept {
    if (completion_queue >= max_completion_queues) return nullptr;
    return reinterpret_cast<Bell*>(static_cast<std::byte*>(bell_mapping.get()) +
                                   completion_queue * bell_stride);
  }

  /// Its shared file `id`, mapped here. Asks for it at first; it is pending until the agent has the answer.
  PeerMemory memory(std::uint32_t id) noexcept;
  /// The answer; an empty mapping if there is none to be had.
  void add_memory(std::uint32_t id, Mapping mapping);
  /// After this and a pause of every completion queue, the mapping may go, but for a loan in it: see
  /// Context::pause_all, QueuePair::keep_while_borrowed.
  std::shared_ptr<const Mapping> remove_memory(std::uint32_t id) noexcept;
  /// Its completion channel `number`, of which `descriptor` has come: one is kept for all queue pairs that
  /// name it. With the context's mutex.
  EventPointer event(std::uint32_t number, Descriptor descriptor);
  /// Keeps a closed guard's address taken for as long as the process may write by it. With the context's
  /// mutex.
  void keep(Mapping guard) { guards_.push_back(std::move(guard)); }
  /// Counts removals: whoever keeps a pointer into a mapping compares it before each use.
  std::atomic<std::uint32_t> memory_epoch{0};

 private:
  struct Memory {
    std::uint32_t id;
    bool pending;
    std::shared_ptr<const Mapping> mapping;
  };
  std::vector<Mapping> guards_;
  std::vector<std::pair<std::uint32_t, std::weak_ptr<const Descriptor>>> events_;
  SpinLock memory_lock_;
  std::vector<Memory> memories_;
};

}  // namespace verbena::core::soft
