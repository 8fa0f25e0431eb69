// SPDX-License-Identifier: Apache-2.0
/// Finds peers whose device doesn't answer any more, on connections where nothing else would meet that.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "transport/ticker.h"

namespace verbena::transport {

class Channel;

/// Once an interval it probes the channels on which nothing has arrived or completed since the last time: by
/// an empty write, which the peer's device acknowledges without its program. So a device that is gone meets a
/// probe after two intervals at most.
class KeepAlive : public Ticker {
 public:
  /// An interval of 0: never. `channels` outlive it.
  KeepAlive(std::chrono::milliseconds interval, const std::vector<std::unique_ptr<Channel>>& channels);

 private:
  void look(std::int64_t now_ns) noexcept;

  const std::chrono::nanoseconds interval_;
  const std::vector<std::unique_ptr<Channel>>& channels_;
};

}  // namespace verbena::transport
