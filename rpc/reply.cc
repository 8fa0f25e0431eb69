// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "transport/channel.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

Reply::Reply(Reply&& other) noexcept
    : channel_(std::exchange(other.channel_, nullptr)),
      serial_(other.serial_),
      slot_(other.slot_),
      generation_(other.generation_) {}

Reply::~Reply() {
  if (channel_) fail(errc::handler_failed);
}

void Reply::send(Bytes bytes) noexcept {
  transport::Channel* channel = std::exchange(channel_, nullptr);
  if (!channel || channel->serial() != serial_) return;  // its connection was lost
  if (channel->send_reply({slot_, generation_, 0, 0}, bytes)) [[unlikely]] {
    channel->send_reply({slot_, generation_, 0, static_cast<std::int32_t>(errc::handler_failed)}, {});
  }
}

void Reply::fail(errc code) noexcept {
  transport::Channel* channel = std::exchange(channel_, nullptr);
  if (!channel || channel->serial() != serial_) return;
  channel->send_reply({slot_, generation_, 0, static_cast<std::int32_t>(code)}, {});
}

}  // namespace verbena::rpc
