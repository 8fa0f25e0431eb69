// SPDX-License-Identifier: Apache-2.0
/// Registrations of the program's memory for a loop's operations: of a Region and of the pool their own, of
/// any other memory the cache's (core/cache/).
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "core/cache/device_registrar.h"
#include "core/cache/registration_cache.h"
#include "transport/exposure.h"
#include "transport/pool_memory.h"
#include "transport/shared_regions.h"
#include "verbena/error.h"

namespace verbena::transport {

/// Thread safety: none; it belongs to one loop, and so does its cache, which knows of changes of mappings by
/// any thread. The cache is made when it is first needed.
class Registrations {
 public:
  /// `kept_bytes`: Options::kept_registrations.
  Registrations(core::Device& device, ibv_pd* pd, SharedRegions& regions, const PoolMemory& pool,
                std::size_t kept_bytes) noexcept
      : registrar_(device, pd),
        regions_(regions),
        pool_(pool),
        kept_bytes_(kept_bytes),
        pins_(registrar_.pins()) {}

  /// For this loop's device, `access` being IBV_ACCESS_…. Empty where it fails: memlock_too_small,
  /// invalid_argument (not mapped, or not with these rights), device_failed. Cost of a hit: a lookup and a
  /// short system call.
  core::Pin pin(std::span<const std::byte> bytes, int access, errc& error) noexcept;
  /// The same without the system call: settle() && pin.current() say that it is good.
  core::Pin pin_early(std::span<const std::byte> bytes, int access, errc& error) noexcept;
  bool settle() const noexcept { return !cache_ || cache_->settle(); }
  /// For a peer. Errors: as pin().
  Exposure expose(std::span<const std::byte> bytes, errc& error) noexcept;
  /// For peers that map it; empty where it doesn't lie in a Region.
  Exposure expose_region(std::span<const std::byte> bytes) noexcept;

  core::RegistrationCache::Counters counters() const noexcept;

 private:
  bool make_cache() noexcept;

  core::DeviceRegistrar registrar_;
  SharedRegions& regions_;
  const PoolMemory& pool_;
  std::size_t kept_bytes_;
  bool pins_;
  std::unique_ptr<core::RegistrationCache> cache_;
};

}  // namespace verbena::transport
