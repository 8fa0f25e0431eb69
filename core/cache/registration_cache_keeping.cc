// SPDX-License-Identifier: Apache-2.0
// What is kept: finding it, and adding to it what has been registered while nothing changed.
#include <cerrno>
#include <new>
#include <utility>

#include "core/cache/registration_cache.h"
#include "core/cache/registration_prover.h"
#include "core/monotonic_ns.h"

namespace verbena::core {

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

}  // namespace verbena::core
