// SPDX-License-Identifier: Apache-2.0
#include "core/cache/registration_cache.h"

#include <fmt/format.h>

#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/cache/registration_prover.h"
#include "core/error.h"

namespace verbena::core {
namespace {

/// How often a miss begins anew because its memory changed while it was registered, before it gives up
/// keeping.
constexpr int attempts = 4;

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
