// SPDX-License-Identifier: Apache-2.0
/// Tells registration caches which memory has been unmapped, moved or emptied, whoever did it and however.
///
/// The kernel tells: userfaultfd(2) in write-protect mode, with nothing ever write-protected. No page fault
/// comes from it, so the memory can be pinned; what comes are events for munmap, mremap, brk, madvise. The
/// kernel holds the thread that changes a mapping until the event has been *read*; on that, and on the
/// kernel's count of changes under way, stands the whole argument.
///
/// What the kernel does, in this order (munmap of watched memory by a thread A):
///   K1  under the lock on the address space: counts a change as under way, takes the mapping away;
///   K2  gives the lock up, queues the event, and holds A;
///   K3  the event is read; A wakes up, counts the change as done, and returns from munmap.
/// madvise differs: K1 takes nothing away, and what is removed is removed after K3.
///
/// What the monitor does:
///   M1  poll(2)s, which reads nothing;
///   M2  makes `turn` odd;
///   M3  reads every event;
///   M4  tells every listener, which retires its entries on that memory;
///   M5  makes `turn` even.
///
/// What a lookup does:
///   L1  (confirmed lookups) asks the kernel whether a change is under way, and waits while one is;
///   L2  reads `turn`; where it is odd, waits;
///   L3  takes its count of an entry if that is alive, in one atomic step (entry.h).
///
/// Claim 1: *a thread that knows of the unmapping* (it did it, or met one that did) can't hit the dead entry,
/// with L2 and L3 alone. Its knowledge comes after K3, K3 after M3, M3 after M2: so L2 reads the odd turn or
/// a later one. Odd: it waits. Even: it read what M5 stored, with acquire against release, so that it sees
/// M4, and L3 finds the entry dead. That is why the turn is made odd *before* reading (the read lets A go),
/// why poll must read nothing, and why L2 stands before L3: were the entry looked at first, M3 to M5 could
/// pass between the two. Between M1 and M2 nobody has been let go, so a lookup in that window is one of a
/// thread that doesn't know.
///
/// Claim 2: *a thread that doesn't know*, but got the same addresses anew from the kernel (mmap) after K1 and
/// before M2, is the reason for L1: only the kernel knows by then. Its mmap took the lock on the address
/// space after A gave it up, so it sees A's change counted (K1), until K3. L1 waits for that; then claim 1
/// holds. A lookup that leaves L1 out is right only for a thread that knows.
///
/// Claim 3: *a registration made while its memory changes.* The memory is watched before it is registered,
/// and from then on each change has an event. The range counts as being registered from before that, under
/// the lock that M4 takes; if an event meets it, it isn't cached. An event of a mapping that was there before
/// may kill an entry on the new one: one more miss.
///
/// Claim 4: *madvise* is told before it is carried out. Entries made between K3 and the removal would be
/// stale with no further event, so listeners are told that the removal is still to come, and cache nothing
/// there for a while (RegistrationCache::Options::removal_delay).
///
/// Invariants:
///   1. The monitor allocates, frees, maps and unmaps nothing, and deregisters nothing: it would wait for
///      itself to read the event.
///   2. The monitor waits for nothing without reading on. Where a lock is taken, it reads and tries again: a
///      thread may be interrupted under that lock by a handler that unmaps.
///   3. Under a lock that the monitor takes there are no allocations and no system calls.
///
/// What the kernel doesn't tell: a hole punched into a shared file through its descriptor, and
/// MADV_GUARD_INSTALL. See RegistrationCache::forget.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "core/cache/address_range.h"
#include "core/fork.h"
#include "core/soft/spin_lock.h"

namespace verbena::core {

/// A change of mappings, in whole pages.
struct MemoryChange {
  AddressRange range;
  bool still_coming = false;  ///< the memory is going to be emptied after this has been told
};

/// Thread safety: every call may be made from any thread. Lifetime: outlives its listeners, and isn't
/// destroyed while a forked child lives. A mapping can be watched by one watcher only, so a process should
/// have one: process_watcher(). Not for use in a forked child: what the parent watches is not watched there.
class MemoryWatcher {
 public:
  /// Both calls come with no other lock held than the watcher's.
  class Listener {
   public:
    /// From the monitor, so it may neither wait nor free: false if a lock is taken, and it is asked again.
    /// May be told the same change more than once.
    virtual bool try_forget(std::span<const MemoryChange> changes) noexcept = 0;
    /// Whether anything in `range` is registered, or is going to be.
    virtual bool uses(AddressRange range) noexcept = 0;
    virtual ~Listener() = default;

   private:
    friend MemoryWatcher;
    Listener* next_ = nullptr;
  };

  /// How tests open the windows that the protocol closes, and show that it does.
  struct Experiment {
    bool announces = true;  ///< M2
    bool tells = true;      ///< M4
    void (*before_announcing)(void*) = nullptr;
    void (*before_telling)(void*) = nullptr;
    void* context = nullptr;
  };

  MemoryWatcher();
  explicit MemoryWatcher(Experiment experiment);
  ~MemoryWatcher();
  MemoryWatcher(const MemoryWatcher&) = delete;
  MemoryWatcher& operator=(const MemoryWatcher&) = delete;

  /// False in a forked child of the process that made it: nothing of what it says holds there.
  bool is_of_this_process() const noexcept { return process_.is_this(); }
  /// False where the kernel refuses userfaultfd; then nothing can be cached.
  bool works() const noexcept { return userfault_ >= 0; }
  /// Why it doesn't work, in words; empty if it does.
  const std::string& why_not() const noexcept { return why_not_; }

  void subscribe(Listener& listener) noexcept;
  void unsubscribe(Listener& listener) noexcept;

  /// From when this returns 0, changes to `range` (whole pages) are told. EINVAL: that kind of mapping can't
  /// be watched, or nothing is mapped there; EBUSY: another userfaultfd has it; ENOMEM: too many mappings
  /// (vm.max_map_count; watching a part of a mapping splits it).
  int watch(AddressRange range) noexcept;
  /// Changes to `range` needn't be told any more, unless a listener uses some of it: unmapping watched memory
  /// waits for the monitor, some tens of µs.
  void unwatch(AddressRange range) noexcept;

  /// For proofs: 0 if all of `range` is under watch, so that its mappings are those that were there when it
  /// was watched. ENOENT if not; EAGAIN while changes are under way. Walks page tables: a few hundred ns and
  /// more.
  int check_watched(AddressRange range) const noexcept;

  /// L2: true while events are being dealt with. Costs a load of a line that is seldom written.
  bool busy() const noexcept {
    // Acquire, against the release of M5: who reads an even turn sees what the monitor did before it.
    return (turn_.load(std::memory_order_acquire) & 1) != 0;
  }

  /// L1 and L2: true when every change that any thread had begun before this call has been told. One system
  /// call, some 100 to 300 ns, where nothing is under way. False after some milliseconds in which changes
  /// were always under way.
  bool settle() const noexcept;

 private:
  bool open() noexcept;
  bool change_under_way() const noexcept;
  bool settle_slowly() const noexcept;
  void run() noexcept;
  void read_changes() noexcept;
  void note(MemoryChange change) noexcept;
  void tell_listeners() noexcept;

  /// Alone in its line: written by the monitor, read by every lookup.
  alignas(64) std::atomic<std::uint32_t> turn_{0};

  alignas(64) Experiment experiment_;
  std::string why_not_;
  OfProcess process_;
  int userfault_ = -1;
  ClosedInChildren mark_;  // of userfault_
  int stop_ = -1;
  std::mutex watching_;                   // orders watch and unwatch; never taken by the monitor
  soft::SpinLock listeners_lock_;         // after watching_, before a listener's own
  Listener* listeners_ = nullptr;         // guarded by listeners_lock_
  std::array<MemoryChange, 64> changes_;  // the monitor's alone, as are the next two
  std::size_t change_count_ = 0;
  std::uint64_t changes_noted_ = 0;
  std::thread monitor_;
};

/// This process's watcher, made when it is first asked for, and there until the process ends. A forked child
/// gets one of its own. Throws std::bad_alloc.
MemoryWatcher& process_watcher();

}  // namespace verbena::core
