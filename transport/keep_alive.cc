// SPDX-License-Identifier: Apache-2.0
#include "transport/keep_alive.h"

#include "core/monotonic_ns.h"
#include "transport/channel.h"
#include "transport/engine.h"

namespace verbena::transport {

KeepAlive::KeepAlive(std::chrono::milliseconds interval,
                     const std::vector<std::unique_ptr<Channel>>& channels)
    : interval_(interval), channels_(channels) {
  if (interval.count() == 0) return;
  due = core::monotonic_ns() + interval_.count();
  tick = [](Ticker& self, std::int64_t now) { static_cast<KeepAlive&>(self).look(now); };
}

void KeepAlive::look(std::int64_t now_ns) noexcept {
  due = now_ns + interval_.count();
  for (const auto& channel : channels_) channel->probe_if_quiet();
}

void Channel::probe_if_quiet() noexcept {
  const bool was_quiet = activity_seen_ == activity_;
  activity_seen_ = activity_;
  if (!accepts_ || !was_quiet || probe_.is_under_way) return;
  probe_.is_under_way = true;
  queue_empty_write(&probe_);
  ++engine_.statistics().keep_alives_sent;
}

}  // namespace verbena::transport
