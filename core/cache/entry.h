// SPDX-License-Identifier: Apache-2.0
/// One registration of the cache, and the one word that says whether it is alive and how many hold it.
///
/// A lookup may meet an entry through a hint that is out of date: its memory is never unmapped while the
/// cache lives, though it may be another registration's by now. So a count is taken with a compare-exchange
/// of the whole word, generation included: it succeeds only if the entry was alive all the time in which its
/// fields were read, and nothing ever has to be undone.
///
///     free --fill, publish--> alive --retire--> retired --the last release, or none held it--> free
///       \----------- fill, publish_for_one_use -------------^
#pragma once

#include <atomic>
#include <boost/intrusive/set.hpp>
#include <cassert>
#include <cstdint>

#include "core/cache/address_range.h"
#include "core/cache/registrar.h"

namespace verbena::core {

struct RegistrationProof;

class alignas(64) Entry {
  // The first line: what a lookup touches.
  std::atomic<std::uint64_t> holds_{0};  // generation, alive, count
  std::atomic<std::uintptr_t> begin_{0};
  std::atomic<std::uintptr_t> end_{0};
  std::atomic<std::uint64_t> last_use_{0};
  std::atomic<void*> object_{nullptr};
  std::atomic<int> access_{0};
  std::atomic<std::uint32_t> lkey_{0};
  std::atomic<std::uint32_t> rkey_{0};

 public:
  bool watched = false;                ///< whoever deregisters it stops watching; set before publish
  RegistrationProof* proof = nullptr;  ///< in proof mode; set before publish

  // The second line: the cache's, under its lock.
  using Hook = boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>,
                                                 boost::intrusive::link_mode<boost::intrusive::normal_link>>;
  Hook by_address;
  Hook by_age;
  std::uint64_t age_key = 0;  ///< what it stands under in the order by age: its last use, or an earlier one
  Entry* next = nullptr;      ///< in a list of free or of retired ones

  /// Takes a count if the entry is alive, covers `range` and allows `access`. Any thread. Cost: one cache
  /// line, one locked instruction.
  bool try_hold(AddressRange range, int access) noexcept {
    // Acquire, against publish: the fields are those of this generation, or of a later one.
    std::uint64_t word = holds_.load(std::memory_order_acquire);
    do {
      if ((word & alive) == 0) return false;
      // Acquire, against the release of fill: who reads a field of a later generation sees the word changed
      // by the retirement before it, and the exchange fails.
      if (range.begin < begin_.load(std::memory_order_acquire)) return false;
      if (range.end > end_.load(std::memory_order_acquire)) return false;
      if ((access & ~access_.load(std::memory_order_acquire)) != 0) return false;
      // Acquire: what the holder does next comes after the entry was found alive.
    } while (
        !holds_.compare_exchange_weak(word, word + 1, std::memory_order_acquire, std::memory_order_acquire));
    return true;
  }

  /// Gives a count back; true if it was the last of a retired entry, which is the caller's from then on.
  bool release() noexcept {
    // Release: what this holder did comes before the deregistration. Acquire: whoever deregisters does so
    // after what all other holders did.
    const std::uint64_t before = holds_.fetch_sub(1, std::memory_order_acq_rel);
    assert((before & count_mask) != 0 && "released more often than held");
    return (before & (alive | count_mask)) == 1;
  }

  /// Of a retired entry that the caller holds: nobody else does, nor will.
  bool is_held_once() const noexcept {
    return (holds_.load(std::memory_order_acquire) & (alive | count_mask)) == 1;  // acquire: as in release()
  }

  /// No lookup succeeds any more; true if nobody holds it, so that it is the caller's from then on.
  bool retire() noexcept {
    // Release: a field of the next generation is seen only with this. Acquire: as in release().
    const std::uint64_t before = holds_.fetch_and(~alive, std::memory_order_acq_rel);
    assert((before & alive) != 0 && "retired twice");
    return (before & count_mask) == 0;
  }

  /// Retires it if nobody holds it.
  bool try_retire_unused() noexcept {
    std::uint64_t word = holds_.load(std::memory_order_relaxed);  // a guess: the exchange decides
    if ((word & count_mask) != 0) return false;
    // Acquire and release as in retire(); relaxed where it fails, as nothing follows from that.
    return holds_.compare_exchange_strong(word, word & ~alive, std::memory_order_acq_rel,
                                          std::memory_order_relaxed);
  }

  /// Whether lookups find it. Acquire: who sees it retired sees what made it so.
  bool is_alive() const noexcept { return (holds_.load(std::memory_order_acquire) & alive) != 0; }
  /// Of an entry that the caller holds: whether it is of the memory that is there, as far as is known.
  bool is_current() const noexcept {
    return (holds_.load(std::memory_order_acquire) & (alive | one_use)) != 0;  // as in is_alive()
  }

  /// Of a free entry, by its owner. Release, each: see try_hold.
  void fill(AddressRange range, int access, const Registration& registration) noexcept {
    begin_.store(range.begin, std::memory_order_release);
    end_.store(range.end, std::memory_order_release);
    access_.store(access, std::memory_order_release);
    lkey_.store(registration.lkey, std::memory_order_relaxed);      // read by holders alone, after publish
    rkey_.store(registration.rkey, std::memory_order_relaxed);      // as lkey
    object_.store(registration.object, std::memory_order_relaxed);  // as lkey
  }
  /// Makes it alive, held once, in a new generation.
  void publish() noexcept { publish(alive | 1); }
  /// Held once, and found by no lookup.
  void publish_for_one_use() noexcept { publish(one_use | 1); }

  // Of an entry that the caller holds, or that is its own. Relaxed: the count was taken with acquire.
  AddressRange range() const noexcept {
    return {begin_.load(std::memory_order_relaxed), end_.load(std::memory_order_relaxed)};
  }
  int access() const noexcept { return access_.load(std::memory_order_relaxed); }
  Registration registration() const noexcept {
    return {object_.load(std::memory_order_relaxed), lkey_.load(std::memory_order_relaxed),
            rkey_.load(std::memory_order_relaxed)};
  }

  /// What is to be deregistered, once: false for whoever comes later. Relaxed: the exchange decides who, and
  /// the registration itself was known when the count was taken.
  bool take_registration(Registration& registration) noexcept {
    registration = this->registration();
    return object_.exchange(nullptr, std::memory_order_relaxed) != nullptr;
  }
  /// What couldn't be.
  void return_registration(const Registration& registration) noexcept {
    object_.store(registration.object, std::memory_order_relaxed);  // as it was taken
  }

  /// When it was last used, on the cache's clock. Relaxed: a hint for eviction.
  void touch(std::uint64_t now) noexcept {
    if (last_use_.load(std::memory_order_relaxed) != now) last_use_.store(now, std::memory_order_relaxed);
  }
  std::uint64_t last_use() const noexcept { return last_use_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t count_mask = 0xffff'ffff;
  static constexpr std::uint64_t alive = std::uint64_t{1} << 32;
  static constexpr std::uint64_t one_use = std::uint64_t{1} << 33;
  static constexpr std::uint64_t generation = std::uint64_t{1} << 34;

  void publish(std::uint64_t state) noexcept {
    // Relaxed: nobody else writes the word of an entry that is neither alive nor held.
    const std::uint64_t before = holds_.load(std::memory_order_relaxed);
    assert((before & (alive | count_mask)) == 0 && "published while in use");
    // Release: who takes a count sees the fields.
    holds_.store((before & ~(generation - 1)) + generation + state, std::memory_order_release);
  }
};
static_assert(sizeof(Entry) == 128, "two cache lines, the first of them for lookups");

/// Puts an entry that is in no other list at the front of `list`.
inline void push(Entry*& list, Entry& entry) noexcept {
  entry.next = list;
  list = &entry;
}

}  // namespace verbena::core
