// SPDX-License-Identifier: Apache-2.0
/// How long a requester that met no receive waits before it tries again.
#pragma once

#include <cstdint>

namespace verbena::core::soft {

/// By ibv_modify_qp(3)'s code of the minimal RNR NAK timer; IBTA's table of RNR NAK timer values, in units of
/// 10 µs.
inline std::int64_t not_ready_timer_ns(std::uint8_t code) noexcept {
  constexpr std::int64_t units_of_10us[32] = {
      65536, 1,   2,   3,   4,    6,    8,    12,   16,   24,   32,   48,    64,    96,    128,   192,
      256,   384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152};
  return units_of_10us[code & 31] * 10'000;
}

}  // namespace verbena::core::soft
