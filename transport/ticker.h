// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace verbena::transport {

/// Something that time matters to; the engine calls it when `due` has passed. Not owned.
struct Ticker {
  static constexpr std::int64_t never = INT64_MAX;
  std::int64_t due = never;  ///< ns of the steady clock
  void (*tick)(Ticker& self, std::int64_t now_ns) = nullptr;
};

}  // namespace verbena::transport
