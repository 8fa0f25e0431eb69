// SPDX-License-Identifier: Apache-2.0
/// One-sided operations on memory that is registered for them.
#pragma once

#include <memory>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include "core/cache/registration_cache.h"
#include "verbena/operation.h"

namespace verbena::transport {

/// Stands for a program's operation while the device has it, and holds its memory's registration. Allocates
/// until there are as many as are ever under way at once. Thread safety: none; it belongs to one loop.
class PinnedOperations {
 public:
  PinnedOperations() = default;
  PinnedOperations(const PinnedOperations&) = delete;
  PinnedOperations& operator=(const PinnedOperations&) = delete;

  /// What to start in the place of `done`, which completes with it. nullptr: there is no memory.
  Operation* begin(core::Pin pin, Operation& done) noexcept {
    if (!free_ && !grow()) return nullptr;
    Pinned& pinned = *std::exchange(free_, static_cast<Pinned*>(free_->next));
    pinned.done = &done;
    pinned.pin = std::move(pin);
    return &pinned;
  }

 private:
  struct Pinned : Operation {
    explicit Pinned(PinnedOperations& all) : Operation(&completed), owner(all) {}
    PinnedOperations& owner;
    Operation* done = nullptr;
    core::Pin pin;
  };

  static void completed(Operation* self, std::error_code error, std::size_t bytes) noexcept {
    auto& pinned = *static_cast<Pinned*>(self);
    pinned.pin.release();
    Operation* const done = pinned.done;
    pinned.owner.give(pinned);
    done->complete(done, error, bytes);
  }

  void give(Pinned& pinned) noexcept {
    pinned.next = free_;
    free_ = &pinned;
  }

  bool grow() noexcept {
    try {
      give(*all_.emplace_back(std::make_unique<Pinned>(*this)));
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  std::vector<std::unique_ptr<Pinned>> all_;
  Pinned* free_ = nullptr;
};

}  // namespace verbena::transport
