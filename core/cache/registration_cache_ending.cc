// SPDX-License-Identifier: Apache-2.0
// What is kept no longer: for want of room, because its memory has changed, because a holder wants it so.
#include <cassert>
#include <utility>

#include "core/cache/registration_cache.h"
#include "core/cache/registration_prover.h"
#include "core/monotonic_ns.h"

namespace verbena::core {
namespace {

/// How many entries are looked at under the lock before others get it.
constexpr std::size_t looks_at_once = 64;

}  // namespace

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

/// Once for an entry, by whoever comes first. Without the lock: a driver may unmap. False: the device has
/// refused, and whoever comes next tries again.
bool RegistrationCache::deregister(Entry& entry) noexcept {
  if (!watcher_.is_of_this_process()) return true;
  Registration registration;
  if (!entry.take_registration(registration)) return true;
  const std::int64_t begin = monotonic_ns();
  if (const int error = registrar_.remove(registration)) {
    const std::string_view name = registrar_.name();
    std::fprintf(stderr, "verbena: a cached registration with device %.*s could not be taken back: %s\n",
                 static_cast<int>(name.size()), name.data(), std::strerror(error));
    entry.return_registration(registration);
    return false;
  }
  const auto took = static_cast<std::uint64_t>(monotonic_ns() - begin);
  const std::lock_guard lock{lock_};
  figures_.registration_ns += took;
  figures_.pinned_bytes -= entry.range().size();
  return true;
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
  // Once alone, for ever alone: nobody finds it any more.
  if (!entry_->is_held_once() || !cache_->deregister(*entry_)) return false;
  release();
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

}  // namespace verbena::core
