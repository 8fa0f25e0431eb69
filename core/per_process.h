// SPDX-License-Identifier: Apache-2.0
/// What a process has one of, behind a lock. A forked child begins with its own, fresh one: in its parent
/// another thread may have held the lock, and been in the middle of a change.
///
/// For static storage: never destroyed, as a thread of the program may use it while other statics end.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "core/fork.h"

namespace verbena::core {

template <class T>
class PerProcess {
 public:
  constexpr PerProcess() noexcept = default;
  PerProcess(const PerProcess&) = delete;
  PerProcess& operator=(const PerProcess&) = delete;

  /// Calls `act` with it, one thread at a time. Throws std::bad_alloc, T's constructor's, and `act`'s
  /// exceptions.
  template <class Act>
  auto with(Act&& act) {
    Guarded& own = instance();
    const std::lock_guard guard(own.mutex);
    return act(own.value);
  }

 private:
  struct Guarded {
    OfProcess process;
    Guarded* parents;  // kept, as nobody knows what state it is in
    std::mutex mutex;
    T value{};
  };

  Guarded& instance() {
    // Acquire, both: pairs with the release of who made it.
    Guarded* known = instance_.load(std::memory_order_acquire);
    if (known && known->process.is_this()) return *known;
    auto fresh = std::make_unique<Guarded>();
    fresh->parents = known;
    if (instance_.compare_exchange_strong(known, fresh.get(), std::memory_order_acq_rel,
                                          std::memory_order_acquire))
      return *fresh.release();
    return *known;  // another thread of this process was first
  }

  std::atomic<Guarded*> instance_{nullptr};
};

}  // namespace verbena::core
