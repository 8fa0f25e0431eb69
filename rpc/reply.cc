// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "rpc/method_table.h"
#include "transport/channel.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

Reply::Reply(Reply&& other) noexcept
    : channel_(std::exchange(other.channel_, nullptr)),
      serial_(other.serial_),
      slot_(other.slot_),
      generation_(other.generation_),
      statistics_(other.statistics_) {}

Reply::~Reply() {
  if (channel_) [[unlikely]]
    fail(errc::handler_failed);
}

void Reply::send(Bytes bytes) noexcept {
  transport::Channel* channel = std::exchange(channel_, nullptr);
  if (!channel) return;
  if (channel->serial() != serial_) [[unlikely]]  // its connection was lost
    return count_failure(*statistics_, errc::connection_lost);
  if (const auto error = channel->send_reply({slot_, generation_, 0, 0}, bytes)) [[unlikely]] {
    channel->send_reply({slot_, generation_, 0, static_cast<std::int32_t>(errc::handler_failed)}, {});
    return count_failure(*statistics_, channel->is_open() ? errc::handler_failed : errc::connection_lost);
  }
  ++statistics_->completed;
  statistics_->bytes_out += bytes.size();
}

// Out of line: the way of an answered request through the destructor stays short.
[[gnu::noinline]] void Reply::fail(errc code) noexcept {
  transport::Channel* channel = std::exchange(channel_, nullptr);
  if (!channel) return;
  if (channel->serial() != serial_ ||
      channel->send_reply({slot_, generation_, 0, static_cast<std::int32_t>(code)}, {})) [[unlikely]]
    return count_failure(*statistics_, errc::connection_lost);
  count_failure(*statistics_, code);
}

}  // namespace verbena::rpc
