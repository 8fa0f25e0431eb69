// SPDX-License-Identifier: Apache-2.0
/// Registrations of users' memory, kept for the next time: a hit is a lookup and a count.
///
///     Pin pin = cache.acquire(data, size, IBV_ACCESS_LOCAL_WRITE);
///     … pin.lkey() …                     // until the operation has completed
///
/// A registration is dropped when its memory is unmapped, moved or emptied, whoever does that and however
/// (memory_watcher.h, docs/registration-cache.md); a thread that asks after that never gets the old one.
/// Where changes can't be watched (userfaultfd is refused; mappings of regular files), memory is registered
/// for each use: slower and as right, said once on stderr, and counted.
#pragma once

#include <array>
#include <atomic>
#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

#include "core/cache/entry.h"
#include "core/cache/entry_store.h"
#include "core/cache/hint_table.h"
#include "core/cache/memory_watcher.h"
#include "core/cache/thread_counter.h"

namespace verbena::core {

class RegistrationCache;
class RegistrationProver;

/// A counted hold on a registration, which stays valid for the device until the last Pin of it is gone,
/// whatever becomes of the memory. Movable, and may be released by any thread. Lifetime: the cache outlives
/// it.
class Pin {
 public:
  Pin() = default;
  Pin(Pin&& other) noexcept : cache_(other.cache_), entry_(std::exchange(other.entry_, nullptr)) {}
  Pin& operator=(Pin&& other) noexcept {
    Pin taken{std::move(other)};
    std::swap(cache_, taken.cache_);
    std::swap(entry_, taken.entry_);
    return *this;
  }
  ~Pin() { release(); }

  explicit operator bool() const noexcept { return entry_ != nullptr; }
  // Of a Pin that holds something:
  std::uint32_t lkey() const noexcept { return entry_->registration().lkey; }
  std::uint32_t rkey() const noexcept { return entry_->registration().rkey; }
  /// The registered pages, which are more than were asked for.
  AddressRange range() const noexcept { return entry_->range(); }
  /// The rights, which may be more than were asked for.
  int access() const noexcept { return entry_->access(); }
  /// False once the cache knows that its memory has changed, or has replaced it: see acquire_early.
  bool current() const noexcept { return entry_->is_current(); }

  /// Cost: one locked instruction. The last of a dropped registration deregisters it.
  inline void release() noexcept;

  /// Has the registration dropped at once, for memory that somebody must not reach any more; nobody gets it
  /// anew. True: no device touches the memory through it from now on, and nothing is held. False: others hold
  /// it, or the device won't let go of it, and this holds it still.
  bool revoke() noexcept;
  /// The same although others hold it: what they have under way through it fails. Nothing is held then.
  void revoke_for_all() noexcept;

 private:
  friend RegistrationCache;
  Pin(RegistrationCache& cache, Entry& entry) noexcept : cache_(&cache), entry_(&entry) {}

  RegistrationCache* cache_ = nullptr;
  Entry* entry_ = nullptr;
};

/// Thread safety: every call may be made from any thread; hits of different ranges share no line that is
/// written. Calls to the registrar are made one at a time for registering. No pin may be left when it is
/// destroyed. In a forked child it gives out nothing (other_process), and its pins hold nothing.
class RegistrationCache final : private MemoryWatcher::Listener {
 public:
  struct Options {
    /// Of registrations that are kept, those in use included. Beyond, the least recently used go; where all
    /// are in use, memory is registered for one use.
    std::size_t bytes = std::size_t{64} << 30;
    std::size_t entries = 65'536;
    /// A neighbour that touches the range is taken into its registration if it isn't longer than what is
    /// registered anyhow, and both together are no longer than this, in bytes. (Overlapping ones always are.)
    std::size_t joined = std::size_t{16} << 20;
    /// How long nothing is kept where madvise has announced that it will empty memory, in nanoseconds: the
    /// kernel doesn't tell when it has. Matters only to programs that ask for memory in one thread while
    /// another one empties it.
    std::int64_t removal_delay = 20'000'000;
  };

  struct Counters {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;     ///< acquisitions that had to register
    std::uint64_t evictions = 0;  ///< dropped to keep the bounds, or to get under the limit on locked memory
    std::uint64_t invalidations = 0;  ///< dropped because their memory changed
    std::uint64_t revocations = 0;    ///< dropped by Pin::revoke
    std::uint64_t joins = 0;    ///< dropped because a wider registration, or one with more rights, took over
    std::uint64_t retired = 0;  ///< of all dropped, those that somebody held still
    std::uint64_t one_use = 0;  ///< registrations that were not kept
    std::uint64_t unwatched = 0;        ///< of those, because the memory can't be watched
    std::uint64_t entries = 0;          ///< that are kept now
    std::uint64_t kept_bytes = 0;       ///< of those
    std::uint64_t pinned_bytes = 0;     ///< registered now, kept or not
    std::uint64_t registration_ns = 0;  ///< time in the registrar, registering and deregistering
  };

  /// Lifetime: registrar and watcher outlive it. Throws std::bad_alloc.
  RegistrationCache(Registrar& registrar, MemoryWatcher& watcher);
  RegistrationCache(Registrar& registrar, MemoryWatcher& watcher, const Options& options);
  ~RegistrationCache() override;
  RegistrationCache(const RegistrationCache&) = delete;
  RegistrationCache& operator=(const RegistrationCache&) = delete;

  /// A registration that covers `length` bytes at `address` with at least `access` (IBV_ACCESS_…), of the
  /// memory that is mapped there now. Cost of a hit: that of acquire_early and one short system call.
  /// Throws Error: memlock_too_small with the limit and the remedy, invalid_argument (nothing mapped there,
  /// rights that the mapping lacks, no bytes), device_failed, other_process (in a forked child).
  Pin acquire(const void* address, std::size_t length, int access);
  /// The same; where it fails, the Pin is empty and `error` is set.
  Pin acquire(const void* address, std::size_t length, int access, std::error_code& error) noexcept;

  /// Like acquire, without the system call, for callers that confirm many at once:
  ///
  ///     cache.settle() && pin.current()    // of each pin: it is good; else acquire it anew
  ///
  /// Alone it is right for memory that this thread has had since before it last learnt of an unmapping. What
  /// it may miss: that other threads are in the middle of unmapping these addresses, and the kernel has given
  /// them to this one already (claim 2 of memory_watcher.h). A hit leaves `error` alone. Cost of a hit: two
  /// cache lines, one locked instruction.
  Pin acquire_early(const void* address, std::size_t length, int access, std::error_code& error) noexcept {
    const AddressRange range = range_of(address, length);
    if (Entry* entry = hold(range, access)) [[likely]] {
      hits_.raise();
      return {*this, *entry};
    }
    return acquire_slowly(range, access, error);
  }
  /// Waits until every change of mappings begun before this call is known. False if changes didn't cease for
  /// some milliseconds. Cost: one short system call.
  bool settle() const noexcept { return !watcher_.works() || watcher_.settle(); }

  /// Drops what is registered of that memory: for changes that the kernel doesn't tell (a hole punched into a
  /// shared file through its descriptor, MADV_GUARD_INSTALL).
  void forget(const void* address, std::size_t length) noexcept;

  Counters counters() const noexcept;

 private:
  friend Pin;

  /// What a miss is going to register.
  struct Plan {
    AddressRange range;
    int access = 0;
    std::size_t replaced_bytes = 0;  // of entries that it takes over from
    std::size_t replaced_entries = 0;
  };
  enum class Neighbours { joined, left_alone };

  struct Before {
    bool operator()(const Entry& a, const Entry& b) const noexcept {
      return a.range().begin < b.range().begin;
    }
    bool operator()(std::uintptr_t a, const Entry& b) const noexcept { return a < b.range().begin; }
    bool operator()(const Entry& a, std::uintptr_t b) const noexcept { return a.range().begin < b; }
  };
  struct Older {
    bool operator()(const Entry& a, const Entry& b) const noexcept { return a.age_key < b.age_key; }
  };
  using ByAddress =
      boost::intrusive::set<Entry, boost::intrusive::member_hook<Entry, Entry::Hook, &Entry::by_address>,
                            boost::intrusive::compare<Before>, boost::intrusive::constant_time_size<true>>;
  using ByAge =
      boost::intrusive::multiset<Entry, boost::intrusive::member_hook<Entry, Entry::Hook, &Entry::by_age>,
                                 boost::intrusive::compare<Older>>;

  static AddressRange range_of(const void* address, std::size_t length) noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    return {begin, begin + length};
  }

  /// The fast path of a lookup: L2 and L3.
  Entry* hold(AddressRange range, int access) noexcept {
    if (watcher_.busy() || range.end <= range.begin || !watcher_.is_of_this_process()) [[unlikely]]
      return nullptr;
    Entry* const entry = hints_.hold(range, access);
    if (entry == nullptr) [[unlikely]]
      return nullptr;
    entry->touch(clock_.load(std::memory_order_relaxed));  // a hint for eviction
    if (prover_ != nullptr) [[unlikely]]
      return proven(*entry, range);
    return entry;
  }

  Entry* proven(Entry& entry, AddressRange range) noexcept;
  Pin acquire_slowly(AddressRange range, int access, std::error_code& error) noexcept;
  Pin acquire_registering(AddressRange range, int access, std::error_code& error) noexcept;
  Pin acquire_for_one_use(AddressRange range, int access, std::error_code& error) noexcept;
  Entry* find(AddressRange range, int access) noexcept;
  Entry* find_locked(AddressRange range, int access) noexcept;
  Pin acquire_unwatched(AddressRange range, int access, int refusal, std::error_code& error) noexcept;
  bool announce(AddressRange range, int access, Neighbours neighbours, Plan& plan) noexcept;
  void withdraw(AddressRange range) noexcept;
  Pin fail(int error, std::error_code& code) noexcept;
  bool publish(Entry& entry, AddressRange asked) noexcept;
  Plan plan_locked(AddressRange range, int access, Neighbours neighbours) noexcept;
  bool make_room(AddressRange range, int access, Neighbours& neighbours) noexcept;
  bool fits_locked(const Plan& plan) const noexcept;
  bool doubtful_locked(AddressRange range) const noexcept;
  int add(AddressRange range, int access, Entry& entry) noexcept;
  int add_making_room(AddressRange range, int access, Entry& entry) noexcept;
  Entry* take_entry() noexcept;
  void give_entry(Entry& entry) noexcept;
  std::size_t evict(std::size_t bytes) noexcept;
  Entry* evict_one_locked(std::size_t& looks) noexcept;
  template <class Visit>
  void visit_locked(AddressRange range, Visit visit) noexcept;
  void unlist_locked(Entry& entry) noexcept;
  void drop_locked(AddressRange range, std::uint64_t& counter, Entry*& unused) noexcept;
  void reap() noexcept;
  void finish(Entry* list) noexcept;
  void finish_last(Entry& entry) noexcept;
  void drop(Entry& entry) noexcept;
  bool deregister(Entry& entry) noexcept;
  void say_once(AddressRange range, int error) noexcept;
  bool try_forget(std::span<const MemoryChange> changes) noexcept override;
  bool uses(AddressRange range) noexcept override;

  struct Doubt {
    AddressRange range;
    std::int64_t until = 0;  // on the monotonic clock
  };

  // Read by every lookup, seldom written.
  MemoryWatcher& watcher_;
  HintTable hints_;
  std::atomic<std::uint64_t> clock_{1};  // one tick a miss
  std::unique_ptr<RegistrationProver> prover_;
  std::atomic<bool> reapable_{false};

  ThreadCounter hits_;

  Registrar& registrar_;
  const Options options_;
  std::mutex registering_;  // one miss at a time; never taken by the monitor
  std::atomic<bool> said_{false};

  // The lock that the monitor takes: nothing is allocated or freed under it, and no system call made.
  mutable soft::SpinLock lock_;
  // Guarded by it, all of these:
  EntryStore store_;
  ByAddress by_address_;        // alive ones; no two overlap
  ByAge by_age_;                // the same
  Entry* reap_list_ = nullptr;  // retired by the monitor, held by nobody
  Counters figures_;            // without hits
  std::array<Doubt, 128> doubts_;
  std::size_t next_doubt_ = 0;
  AddressRange announced_;  // what a miss is registering; empty if none
  bool announced_changed_ = false;
};

template <class Visit>
void RegistrationCache::visit_locked(AddressRange range, Visit visit) noexcept {
  auto at = by_address_.upper_bound(range.begin, Before{});
  if (at != by_address_.begin() && std::prev(at)->range().end > range.begin) --at;
  while (at != by_address_.end() && at->range().begin < range.end) visit(*at++);
}

inline void Pin::release() noexcept {
  Entry* const entry = std::exchange(entry_, nullptr);
  if (entry == nullptr) return;
  if (entry->release()) [[unlikely]]
    cache_->finish_last(*entry);
  // Relaxed: a hint; the list itself is read under the lock.
  if (cache_->reapable_.load(std::memory_order_relaxed)) [[unlikely]]
    cache_->reap();
}

}  // namespace verbena::core
