// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
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
      window_(other.window_),
      statistics_(other.statistics_) {}

Reply::~Reply() {
  if (channel_) [[unlikely]]
    fail(errc::handler_failed);
}

inline void Reply::send(Bytes first, std::span<const Bytes> more) noexcept {
  transport::Channel* channel = std::exchange(channel_, nullptr);
  if (!channel) return;
  if (channel->serial() != serial_) [[unlikely]]  // its connection was lost
    return count_failure(*statistics_, errc::connection_lost);
  if (channel->send_reply({slot_, generation_, 0, 0}, first, more) != errc{}) [[unlikely]] {
    channel->send_reply({slot_, generation_, 0, static_cast<std::int32_t>(errc::handler_failed)}, {});
    return count_failure(*statistics_, channel->is_open() ? errc::handler_failed : errc::connection_lost);
  }
  ++statistics_->completed;
  statistics_->bytes_out += first.size();
  for (const Bytes& piece : more) statistics_->bytes_out += piece.size();
}

void Reply::send(Bytes bytes) noexcept {
  send(bytes, {});
}

void Reply::send(Gather pieces) noexcept {
  if (pieces.pieces.empty()) return send(Bytes{}, {});
  send(pieces.pieces.front(), pieces.pieces.subspan(1));
}

Held Reply::hold(Bytes part) {
  Held held;
  auto& kept = held.kept_;
  if (channel_ && channel_->serial() == serial_ &&
      channel_->hold_request({slot_, generation_}, part, kept.receive, kept.range, kept.length)) {
    kept.channel = channel_;
    kept.serial = serial_;
    kept.bytes = part;
  } else {
    kept.copy = std::make_unique_for_overwrite<std::byte[]>(part.size());
    std::ranges::copy(part, kept.copy.get());
    kept.bytes = {kept.copy.get(), part.size()};
  }
  return held;
}

// Out of line: the way of an answered request through the destructor stays short.
[[gnu::noinline]] void Reply::fail(errc code) noexcept {
  transport::Channel* channel = std::exchange(channel_, nullptr);
  if (!channel) return;
  if (channel->serial() != serial_ ||
      channel->send_reply({slot_, generation_, 0, static_cast<std::int32_t>(code)}, {}) != errc{})
      [[unlikely]]
    return count_failure(*statistics_, errc::connection_lost);
  count_failure(*statistics_, code);
}

}  // namespace verbena::rpc
