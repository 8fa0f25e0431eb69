// SPDX-License-Identifier: Apache-2.0
#include "core/cache/registration_cache.h"

#include <fmt/format.h>

#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "core/cache/registration_prover.h"
#include "core/error.h"
#include "core/monotonic_ns.h"

namespace verbena::core {
namespace {

/// How often a miss begins anew because its memory changed while it was registered, before it gives up
/// keeping.
constexpr int attempts = 4;
/// How many entries are looked at under the lock before others get it.
constexpr std::size_t looks_at_once = 64;

void push(Entry*& list, Entry& entry) noexcept {
  entry.next = list;
  list = &entry;
}

/// Carries the registrar's errno value to whoever makes a sentence of it.
class RegistrationCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "registration"; }
  std::string message(int error) const override { return std::generic_category().message(error); }
  std::error_condition default_error_condition(int error) const noexcept override {
    return make_error_condition(to_errc("ibv_reg_mr", error));
  }
};

const std::error_category& registration_category() noexcept {
  static const RegistrationCategory category;
  return category;
}

const char* why_unwatched(int error) noexcept {
  switch (error) {
    case EINVAL:
      return "the kernel watches anonymous memory and memfds, no mappings of files";
    case EBUSY:
      return "another userfaultfd of this process watches it";
    case ENOMEM:
      return "this process has too many mappings (vm.max_map_count)";
    default:
      return std::strerror(error);
  }
}

}  // namespace

RegistrationCache::RegistrationCache(Registrar& registrar, MemoryWatcher& watcher)
    : RegistrationCache(registrar, watcher, Options{}) {}

RegistrationCache::RegistrationCache(Registrar& registrar, MemoryWatcher& watcher, const Options& options)
    : watcher_(watcher),
      hints_(options.entries),
      prover_(RegistrationProver::if_wanted(registrar, watcher)),
      registrar_(registrar),
      options_(options) {
  store_.adopt(EntryStore::make_chunk());
  watcher_.subscribe(*this);
}

RegistrationCache::~RegistrationCache() {
  if (!watcher_.is_of_this_process()) return;
  watcher_.unsubscribe(*this);
  Entry* unused = nullptr;
  {
    const std::lock_guard lock{lock_};
    std::uint64_t dropped = 0;
    drop_locked({0, ~std::uintptr_t{0}}, dropped, unused);
  }
  finish(unused);
  reap();
  assert(counters().pinned_bytes == 0 && "a Pin outlives its cache");
}

Pin RegistrationCache::acquire(const void* address, std::size_t length, int access) {
  std::error_code error;
  Pin pin = acquire(address, length, access, error);
  if (error == errc::other_process)
    throw Error(errc::other_process, "this registration cache is the parent's: make one after fork");
  if (error) {
    throw_verb_error(registrar_.name(), "ibv_reg_mr", error.value(),
                     fmt::format("{} bytes at {}, access {:#x}", length, address, access));
  }
  return pin;
}

Pin RegistrationCache::acquire(const void* address, std::size_t length, int access,
                               std::error_code& error) noexcept {
  const AddressRange range = range_of(address, length);
  if (Entry* entry = hold(range, access)) [[likely]] {
    Pin pin{*this, *entry};
    // L1 after the count was taken, then L2 and the looking again: what was under way is known by then.
    if (watcher_.settle() && pin.current()) [[likely]] {
      hits_.raise();
      error.clear();
      return pin;
    }
  }
  return acquire_slowly(range, access, error);
}

Pin RegistrationCache::acquire_slowly(AddressRange range, int access, std::error_code& error) noexcept {
  if (!watcher_.is_of_this_process()) {  // before any lock, which may be taken for ever here
    error = make_error_code(errc::other_process);
    return {};
  }
  reap();
  error.clear();
  if (range.end <= range.begin || range.pages().end <= range.begin) return fail(EINVAL, error);
  if (!watcher_.works()) return acquire_unwatched(range, access, 0, error);
  if (watcher_.settle()) {
    if (Entry* entry = find(range, access)) {
      hits_.raise();
      return {*this, *entry};
    }
    return acquire_registering(range, access, error);
  }
  return acquire_for_one_use(range, access, error);
}

/// Watched before it is registered, announced before it is watched: claim 3 of memory_watcher.h.
Pin RegistrationCache::acquire_registering(AddressRange range, int access, std::error_code& error) noexcept {
  const std::lock_guard one_at_a_time{registering_};
  Neighbours neighbours = Neighbours::joined;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    if (Entry* entry = find(range, access)) {  // another thread's miss came first
      hits_.raise();
      return {*this, *entry};
    }
    Plan plan;
    if (!make_room(range, access, neighbours) || !announce(range, access, neighbours, plan)) break;
    const bool wider = plan.range != range.pages() || plan.access != access;
    if (const int refusal = watcher_.watch(plan.range)) {
      withdraw({});
      if (wider && neighbours == Neighbours::joined) {
        neighbours = Neighbours::left_alone;
        continue;
      }
      return acquire_unwatched(range, access, refusal, error);
    }
    Entry* const entry = take_entry();
    int failure = ENOMEM;
    if (entry != nullptr) {
      entry->watched = true;
      failure =
          wider ? add(plan.range, plan.access, *entry) : add_making_room(plan.range, plan.access, *entry);
    }
    if (failure != 0) {
      if (entry != nullptr) give_entry(*entry);
      withdraw(plan.range);
      if (!wider) return fail(failure, error);
      neighbours = Neighbours::left_alone;  // perhaps it was theirs: their memory, or their rights
      continue;
    }
    // What changed meanwhile is known now, as a rule; what isn't yet retires the entry later.
    watcher_.settle();
    if (publish(*entry, range)) return {*this, *entry};
    neighbours = Neighbours::left_alone;
  }
  return acquire_for_one_use(range, access, error);
}

Pin RegistrationCache::acquire_for_one_use(AddressRange range, int access, std::error_code& error) noexcept {
  Entry* const entry = take_entry();
  if (entry == nullptr) return fail(ENOMEM, error);
  entry->watched = false;
  if (const int failure = add_making_room(range.pages(), access, *entry)) {
    give_entry(*entry);
    return fail(failure, error);
  }
  entry->publish_for_one_use();
  const std::lock_guard lock{lock_};
  ++figures_.misses;
  ++figures_.one_use;
  return {*this, *entry};
}

/// `refusal`: the watcher's errno value, or 0 where it doesn't work at all.
Pin RegistrationCache::acquire_unwatched(AddressRange range, int access, int refusal,
                                         std::error_code& error) noexcept {
  Pin pin = acquire_for_one_use(range, access, error);
  if (!pin) return pin;  // nothing is mapped there, and more isn't to be said
  say_once(range, refusal);
  const std::lock_guard lock{lock_};
  ++figures_.unwatched;
  return pin;
}

Pin RegistrationCache::fail(int error, std::error_code& code) noexcept {
  code = {error, registration_category()};
  return {};
}

Entry* RegistrationCache::proven(Entry& entry, AddressRange range) noexcept {
  Pin pin{*this, entry};
  if (!watcher_.settle() || !pin.current()) return nullptr;
  prover_->check(entry, range);
  return std::exchange(pin.entry_, nullptr);
}

/// The slow lookup, under the lock: exact where the hints are none.
Entry* RegistrationCache::find(AddressRange range, int access) noexcept {
  Entry* entry = nullptr;
  {
    const std::lock_guard lock{lock_};
    entry = find_locked(range, access);
  }
  return entry != nullptr && prover_ != nullptr ? proven(*entry, range) : entry;
}

Entry* RegistrationCache::find_locked(AddressRange range, int access) noexcept {
  auto after = by_address_.upper_bound(range.begin, Before{});
  if (after == by_address_.begin()) return nullptr;
  Entry& entry = *--after;
  if (!entry.try_hold(range, access)) return nullptr;
  entry.touch(clock_.load(std::memory_order_relaxed));  // a hint for eviction
  hints_.put(range.begin, entry.range(), entry);
  return &entry;
}

/// Says what is going to be registered, so that a change of it is noticed. False where it can't be kept.
bool RegistrationCache::announce(AddressRange range, int access, Neighbours neighbours, Plan& plan) noexcept {
  const std::lock_guard lock{lock_};
  plan = plan_locked(range, access, neighbours);
  if (doubtful_locked(plan.range)) return false;
  announced_ = plan.range;
  announced_changed_ = false;
  return true;
}

/// `watched`: what needn't be watched after all.
void RegistrationCache::withdraw(AddressRange watched) noexcept {
  {
    const std::lock_guard lock{lock_};
    announced_ = {};
  }
  if (watched.size() != 0) watcher_.unwatch(watched);
}

/// Lets lookups find it, in the place of those that it overlaps; false, and it is gone, if a change was told
/// since it was announced.
bool RegistrationCache::publish(Entry& entry, AddressRange asked) noexcept {
  if (prover_ != nullptr) entry.proof = prover_->record(entry.range());
  Entry* unused = nullptr;
  bool kept = false;
  {
    const std::lock_guard lock{lock_};
    announced_ = {};
    kept = !announced_changed_;
    if (kept) {
      drop_locked(entry.range(), figures_.joins, unused);
      // Relaxed: no other thread writes it, and lookups take it for a hint.
      const std::uint64_t now = clock_.load(std::memory_order_relaxed) + 1;
      clock_.store(now, std::memory_order_relaxed);
      entry.touch(now);
      entry.age_key = now;
      entry.publish();
      by_address_.insert(entry);
      by_age_.insert(entry);
      hints_.put(asked.begin, entry.range(), entry);
      ++figures_.misses;
      figures_.kept_bytes += entry.range().size();
    } else {
      push(unused, entry);
    }
  }
  finish(unused);
  return kept;
}

RegistrationCache::Plan RegistrationCache::plan_locked(AddressRange range, int access,
                                                       Neighbours neighbours) noexcept {
  Plan plan{range.pages(), access};
  const auto joins = [&](const Entry& entry) {
    if (neighbours == Neighbours::left_alone) return false;
    if (entry.range().overlaps(plan.range)) return true;
    const std::size_t size = entry.range().size();
    return size <= plan.range.size() && size + plan.range.size() <= options_.joined;
  };
  for (bool grown = true; grown;) {
    const AddressRange before = plan.range;
    if (auto at = by_address_.lower_bound(plan.range.begin, Before{}); at != by_address_.begin()) {
      const Entry& left = *--at;
      if (left.range().end >= plan.range.begin && joins(left)) plan.range = plan.range.joined(left.range());
    }
    if (auto at = by_address_.upper_bound(plan.range.end, Before{}); at != by_address_.begin()) {
      const Entry& right = *--at;
      if (right.range().end > plan.range.end && joins(right)) plan.range = plan.range.joined(right.range());
    }
    grown = plan.range != before;
  }
  visit_locked(plan.range, [&](const Entry& entry) {
    if (neighbours == Neighbours::joined) plan.access |= entry.access();
    plan.replaced_bytes += entry.range().size();
    ++plan.replaced_entries;
  });
  return plan;
}

bool RegistrationCache::fits_locked(const Plan& plan) const noexcept {
  return figures_.kept_bytes - plan.replaced_bytes + plan.range.size() <= options_.bytes &&
         by_address_.size() - plan.replaced_entries + 1 <= options_.entries;
}

/// Evicts until the miss fits; leaves the neighbours alone where it wouldn't fit with them at all.
bool RegistrationCache::make_room(AddressRange range, int access, Neighbours& neighbours) noexcept {
  for (;;) {
    {
      const std::lock_guard lock{lock_};
      const Plan plan = plan_locked(range, access, neighbours);
      if (fits_locked(plan)) return true;
      if (plan.range.size() > options_.bytes) {
        if (neighbours == Neighbours::left_alone) return false;
        neighbours = Neighbours::left_alone;
        continue;
      }
    }
    if (evict(1) == 0) return false;
  }
}

bool RegistrationCache::doubtful_locked(AddressRange range) const noexcept {
  // The clock is read without a system call (vDSO).
  for (const Doubt& doubt : doubts_) {
    if (doubt.range.overlaps(range) && monotonic_ns() < doubt.until) return true;
  }
  return false;
}

int RegistrationCache::add(AddressRange range, int access, Entry& entry) noexcept {
  const std::int64_t begin = monotonic_ns();
  Registration registration;
  const int error = registrar_.add(range, access, registration);
  const auto took = static_cast<std::uint64_t>(monotonic_ns() - begin);
  if (error == 0) entry.fill(range, access, registration);
  const std::lock_guard lock{lock_};
  figures_.registration_ns += took;
  if (error == 0) figures_.pinned_bytes += range.size();
  return error;
}

/// At the limit on locked memory, what is kept and not in use goes, as much as is needed.
int RegistrationCache::add_making_room(AddressRange range, int access, Entry& entry) noexcept {
  for (;;) {
    const int error = add(range, access, entry);
    if (error != ENOMEM || evict(range.size()) == 0) return error;
  }
}

/// nullptr where there is no memory.
Entry* RegistrationCache::take_entry() noexcept {
  for (;;) {
    {
      const std::lock_guard lock{lock_};
      if (Entry* entry = store_.take()) return entry;
    }
    try {
      EntryStore::Chunk chunk = EntryStore::make_chunk();
      const std::lock_guard lock{lock_};
      store_.adopt(std::move(chunk));
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
}

void RegistrationCache::give_entry(Entry& entry) noexcept {
  const std::lock_guard lock{lock_};
  store_.give(entry);
}

/// Drops entries that nobody holds, least recently used first, until `bytes` are free; how many are.
std::size_t RegistrationCache::evict(std::size_t bytes) noexcept {
  Entry* unused = nullptr;
  std::size_t freed = 0;
  std::size_t looks = 0;
  for (bool more = true; more && freed < bytes;) {
    const std::lock_guard lock{lock_};
    std::size_t looks_now = 0;
    while (freed < bytes && looks_now < looks_at_once) {
      Entry* const entry = evict_one_locked(looks_now);
      if (entry == nullptr) break;
      freed += entry->range().size();
      push(unused, *entry);
    }
    looks += looks_now;
    // Each is met twice at most: once to correct its age, once to find it in use.
    more = looks <= 2 * by_address_.size() + looks_at_once && !by_age_.empty();
  }
  finish(unused);
  return freed;
}

/// Looks at `looks_at_once` entries at most. The order by age is put right where it is looked at: hits write
/// no more than the entry's own last use.
Entry* RegistrationCache::evict_one_locked(std::size_t& looks) noexcept {
  while (!by_age_.empty() && looks++ < looks_at_once) {
    Entry& oldest = *by_age_.begin();
    if (oldest.last_use() == oldest.age_key && oldest.try_retire_unused()) {
      unlist_locked(oldest);
      ++figures_.evictions;
      return &oldest;
    }
    by_age_.erase(by_age_.iterator_to(oldest));
    // Relaxed: see publish(). One that is in use is as good as used now.
    if (oldest.last_use() == oldest.age_key) oldest.touch(clock_.load(std::memory_order_relaxed));
    oldest.age_key = oldest.last_use();
    by_age_.insert(oldest);
  }
  return nullptr;
}

template <class Visit>
void RegistrationCache::visit_locked(AddressRange range, Visit visit) noexcept {
  auto at = by_address_.upper_bound(range.begin, Before{});
  if (at != by_address_.begin() && std::prev(at)->range().end > range.begin) --at;
  while (at != by_address_.end() && at->range().begin < range.end) visit(*at++);
}

void RegistrationCache::unlist_locked(Entry& entry) noexcept {
  by_address_.erase(by_address_.iterator_to(entry));
  by_age_.erase(by_age_.iterator_to(entry));
  figures_.kept_bytes -= entry.range().size();
}

/// Those that nobody holds are pushed to `unused`; the others are finished by their last holders.
void RegistrationCache::drop_locked(AddressRange range, std::uint64_t& counter, Entry*& unused) noexcept {
  visit_locked(range, [&](Entry& entry) {
    unlist_locked(entry);
    ++counter;
    if (entry.retire()) {
      push(unused, entry);
    } else {
      ++figures_.retired;
    }
  });
}

/// Finishes what the monitor has dropped, which may not do that itself.
void RegistrationCache::reap() noexcept {
  if (!watcher_.is_of_this_process()) return;
  if (!reapable_.load(std::memory_order_relaxed)) return;  // a hint: the list is read under the lock
  Entry* list = nullptr;
  {
    const std::lock_guard lock{lock_};
    list = std::exchange(reap_list_, nullptr);
    reapable_.store(false, std::memory_order_relaxed);  // as above
  }
  finish(list);
}

/// Finishes retired entries that nobody holds.
void RegistrationCache::finish(Entry* list) noexcept {
  if (!watcher_.is_of_this_process()) return;  // the parent's registrations stay
  while (list != nullptr) {
    Entry& entry = *std::exchange(list, list->next);
    deregister(entry);
    if (entry.watched) watcher_.unwatch(entry.range());
    delete std::exchange(entry.proof, nullptr);
    give_entry(entry);
  }
}

/// Once for an entry, by whoever comes first. Without the lock: a driver may unmap.
void RegistrationCache::deregister(Entry& entry) noexcept {
  if (!watcher_.is_of_this_process()) return;
  Registration registration;
  if (!entry.take_registration(registration)) return;
  const std::int64_t begin = monotonic_ns();
  if (const int error = registrar_.remove(registration)) {
    const std::string_view name = registrar_.name();
    std::fprintf(stderr, "verbena: a cached registration with device %.*s could not be taken back: %s\n",
                 static_cast<int>(name.size()), name.data(), std::strerror(error));
  }
  const auto took = static_cast<std::uint64_t>(monotonic_ns() - begin);
  const std::lock_guard lock{lock_};
  figures_.registration_ns += took;
  figures_.pinned_bytes -= entry.range().size();
}

void RegistrationCache::finish_last(Entry& entry) noexcept {
  entry.next = nullptr;
  finish(&entry);
}

/// Of an entry that the caller holds: no lookup finds it any more.
void RegistrationCache::drop(Entry& entry) noexcept {
  if (!watcher_.is_of_this_process()) return;
  const std::lock_guard lock{lock_};
  if (!entry.is_alive()) return;  // dropped already, or never kept
  unlist_locked(entry);
  entry.retire();
  ++figures_.revocations;
  ++figures_.retired;
}

bool Pin::revoke() noexcept {
  cache_->drop(*entry_);
  if (!entry_->try_release_last()) return false;
  cache_->finish_last(*std::exchange(entry_, nullptr));
  return true;
}

void Pin::revoke_for_all() noexcept {
  Entry& entry = *std::exchange(entry_, nullptr);
  cache_->drop(entry);
  cache_->deregister(entry);
  if (entry.release()) cache_->finish_last(entry);
}

void RegistrationCache::forget(const void* address, std::size_t length) noexcept {
  if (!watcher_.is_of_this_process()) return;
  Entry* unused = nullptr;
  {
    const std::lock_guard lock{lock_};
    const AddressRange range = range_of(address, length).pages();
    drop_locked(range, figures_.invalidations, unused);
    if (announced_.overlaps(range)) announced_changed_ = true;
  }
  finish(unused);
}

/// The monitor's: pointers are moved from list to list, and that is all.
bool RegistrationCache::try_forget(std::span<const MemoryChange> changes) noexcept {
  if (!lock_.try_lock()) return false;
  for (const MemoryChange& change : changes) {
    drop_locked(change.range, figures_.invalidations, reap_list_);
    if (announced_.overlaps(change.range)) announced_changed_ = true;
    if (change.still_coming) {
      const std::int64_t until = monotonic_ns() + options_.removal_delay;
      Doubt& doubt = doubts_[next_doubt_++ % doubts_.size()];
      // Where one has to go that still counts, the new one covers both.
      const bool counts = monotonic_ns() < doubt.until;
      doubt = {counts ? doubt.range.joined(change.range) : change.range, until};
    }
  }
  if (reap_list_ != nullptr) reapable_.store(true, std::memory_order_relaxed);  // a hint: see reap()
  lock_.unlock();
  return true;
}

bool RegistrationCache::uses(AddressRange range) noexcept {
  const std::lock_guard lock{lock_};
  bool used = announced_.overlaps(range);
  visit_locked(range, [&](const Entry&) { used = true; });
  return used;
}

RegistrationCache::Counters RegistrationCache::counters() const noexcept {
  if (!watcher_.is_of_this_process()) return {};
  const std::lock_guard lock{lock_};
  Counters counters = figures_;
  counters.hits = hits_.read();
  counters.entries = by_address_.size();
  return counters;
}

void RegistrationCache::say_once(AddressRange range, int error) noexcept {
  if (said_.exchange(true, std::memory_order_relaxed)) return;  // nothing follows from it
  if (error == 0) {
    std::fprintf(stderr,
                 "verbena: memory is registered for each use, which is slow: changes of mappings can't be "
                 "watched, as %s\n",
                 watcher_.why_not().c_str());
  } else {
    std::fprintf(stderr,
                 "verbena: some memory is registered for each use, which is slow: changes of the mapping at "
                 "0x%zx can't be watched (%s)\n",
                 static_cast<std::size_t>(range.begin), why_unwatched(error));
  }
}

}  // namespace verbena::core
