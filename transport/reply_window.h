// SPDX-License-Identifier: Apache-2.0
/// A stream of replies where it is written: how many parts its caller takes at the moment.
#pragma once

#include <cstdint>

#include "transport/ticker.h"

namespace verbena::transport {

class Channel;

/// Stands in its channel's list from add_window() to remove_window(), or until the channel ends. As a ticker
/// it is the engine's while a part waits for the connection's credit.
struct ReplyWindow : Ticker {
  Channel* channel = nullptr;  ///< null: it has ended
  std::uint32_t slot = 0;      ///< the call's
  std::uint32_t generation = 0;
  std::uint32_t room = 0;    ///< parts
  bool is_given_up = false;  ///< the caller takes no more
  /// One of these has changed.
  void (*changed)(ReplyWindow& self) noexcept = nullptr;
};

}  // namespace verbena::transport
