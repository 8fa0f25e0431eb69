// SPDX-License-Identifier: Apache-2.0
/// Copies whose bytes are looked for before the copy has ended.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/copy_bytes.h"

namespace verbena::core::soft {

/// Copies so that the last bytes become visible last, as programs that poll them expect of a write.
inline void place(std::byte* to, const std::byte* from, std::size_t length) noexcept {
  constexpr std::size_t tail = sizeof(std::uint64_t);
  if (length == tail) [[likely]] {  // one store
    std::memcpy(to, from, tail);
  } else if (length > tail) {
    const std::size_t body = length - tail;
    copy_bytes(to, from, body);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // x86 keeps stores in order; the compiler must too
    std::memcpy(to + body, from + body, tail);
  } else if (length > 0) {
    std::memcpy(to, from, length - 1);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    to[length - 1] = from[length - 1];
  }
}

}  // namespace verbena::core::soft
