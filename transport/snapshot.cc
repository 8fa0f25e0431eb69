// SPDX-License-Identifier: Apache-2.0
#include "verbena/snapshot.h"

#include <unistd.h>

#include "core/monotonic_ns.h"
#include "transport/engine.h"

namespace verbena::transport {

Snapshot Engine::snapshot() const {
  Snapshot snapshot;
  snapshot.process = ::getpid();
  snapshot.loop = number_;
  snapshot.device = device_->name();
  snapshot.age_ns = core::monotonic_ns() - made_;
  snapshot.connections = open_channels();
  snapshot.peers = options_.peers;
  snapshot.pinned_bytes = pinned_bytes();
  snapshot.latency_sample = options_.latency_sample;
  snapshot.counters = statistics_;
  if (call_counters) call_counters->add_to(snapshot);
  return snapshot;
}

}  // namespace verbena::transport
