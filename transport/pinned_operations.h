// SPDX-License-Identifier: Apache-2.0
/// One-sided operations on memory that is registered for them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <system_error>
#include <vector>

#include "core/cache/registration_cache.h"
#include "transport/registrations.h"
#include "transport/send_ring.h"
#include "verbena/operation.h"

namespace verbena::transport {

/// Stands for a program's operation while the device has it, and holds its memory's registration.
///
/// What is begun within a turn is confirmed together, right before the first of it is posted: asking the
/// kernel whether mappings are changing costs more than the lookup of a registration
/// (RegistrationCache::acquire_early).
///
/// Invariant: no work request is posted whose Pin hasn't been confirmed since it was taken.
///
/// Allocates until there are as many as are ever under way at once. Thread safety: none; it belongs to one
/// loop.
class PinnedOperations {
 public:
  explicit PinnedOperations(Registrations& registrations) noexcept : registrations_(registrations) {}
  PinnedOperations(const PinnedOperations&) = delete;
  PinnedOperations& operator=(const PinnedOperations&) = delete;

  class Pinned;
  /// One that completes `done`, with `bytes` registered for `access` (IBV_ACCESS_…). nullptr, and `error`:
  /// they can't be, or there is no memory. From then on a work request has to be made of it, whose first
  /// piece is that of the memory.
  Pinned* begin(std::span<const std::byte> bytes, int access, Operation& done, errc& error) noexcept;
  /// `slot` is the work request of the one that was begun last.
  void queued(SendSlot& slot) noexcept;
  /// Before any of those that were queued is posted.
  void confirm() noexcept;

 private:
  bool grow() noexcept;
  void give(Pinned& pinned) noexcept;

  Registrations& registrations_;
  std::vector<std::unique_ptr<Pinned>> all_;
  Pinned* free_ = nullptr;
  std::vector<Pinned*> unconfirmed_;
};

class PinnedOperations::Pinned : public Operation {
 public:
  explicit Pinned(PinnedOperations& owner) : Operation(&completed), owner_(owner) {}
  std::uint32_t lkey() const noexcept { return pin_.lkey(); }

 private:
  friend PinnedOperations;
  static void completed(Operation* self, std::error_code error, std::size_t bytes) noexcept;

  PinnedOperations& owner_;
  Operation* done_ = nullptr;
  core::Pin pin_;
  std::span<const std::byte> bytes_;
  int access_ = 0;
  SendSlot* slot_ = nullptr;  // while it isn't confirmed
};

}  // namespace verbena::transport
