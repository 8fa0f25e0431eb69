// SPDX-License-Identifier: Apache-2.0
#include "verbena/snapshot.h"

#include <unistd.h>

#include "core/monotonic_ns.h"
#include "transport/engine.h"

namespace verbena::transport {

const Statistics& Engine::counted() const noexcept {
  const core::RegistrationCache::Counters cache = registrations_.counters();
  statistics_.registrations = cache.misses;
  statistics_.registration_hits = cache.hits;
  statistics_.registration_evictions = cache.evictions;
  statistics_.registration_invalidations = cache.invalidations;
  statistics_.registrations_retired = cache.retired;
  statistics_.registrations_not_kept = cache.one_use;
  statistics_.registration_ns = cache.registration_ns;
  return statistics_;
}

Snapshot Engine::snapshot() const {
  Snapshot snapshot;
  snapshot.process = ::getpid();
  snapshot.loop = number_;
  snapshot.device = device_->name();
  snapshot.age_ns = core::monotonic_ns() - made_;
  snapshot.connections = open_channels();
  snapshot.peers = options_.peers;
  snapshot.pinned_bytes = pinned_bytes();
  snapshot.kept_bytes = registrations_.counters().kept_bytes;
  snapshot.latency_sample = options_.latency_sample;
  snapshot.counters = counted();
  if (call_counters) call_counters->add_to(snapshot);
  return snapshot;
}

}  // namespace verbena::transport
