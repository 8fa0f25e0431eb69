// SPDX-License-Identifier: Apache-2.0
/// Copies whose bytes are looked for before the copy has ended.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/copy_bytes.h"
#include "core/soft/race_detector.h"

namespace verbena::core::soft {

/// A write's last bytes. Programs poll them, and find the others there: an order that ThreadSanitizer knows
/// only of one atomic store.
inline void place_last(std::byte* to, const std::byte* from) noexcept {
  std::uint64_t last;
  std::memcpy(&last, from, sizeof last);
  if (race_detector && reinterpret_cast<std::uintptr_t>(to) % sizeof last == 0) {
    __atomic_store_n(reinterpret_cast<std::uint64_t*>(to), last, __ATOMIC_RELEASE);
  } else {
    std::memcpy(to, &last, sizeof last);
  }
}

/// Copies so that the last bytes become visible last, as programs that poll them expect of a write.
inline void place(std::byte* to, const std::byte* from, std::size_t length) noexcept {
  constexpr std::size_t tail = sizeof(std::uint64_t);
  if (length == tail) [[likely]] {  // one store
    place_last(to, from);
  } else if (length > tail) {
    const std::size_t body = length - tail;
    copy_bytes(to, from, body);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // x86 keeps stores in order; the compiler must too
    place_last(to + body, from + body);
  } else if (length > 0) {
    std::memcpy(to, from, length - 1);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    to[length - 1] = from[length - 1];
  }
}

}  // namespace verbena::core::soft
