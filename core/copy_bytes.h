// SPDX-License-Identifier: Apache-2.0
/// memcpy(3) for the data path, where mostly a few words move and a call would cost more than they do.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace verbena::core {

/// Short ones word by word: a wider load of bytes that were stored in narrower ones just before would wait
/// for those stores to leave the store buffer. The ranges don't overlap.
inline void copy_bytes(std::byte* to, const std::byte* from, std::size_t length) noexcept {
  constexpr std::size_t most = 64;
  if (length > most) {
    std::memcpy(to, from, length);
    return;
  }
  const auto move = [&](auto word) {
    std::memcpy(&word, from, sizeof word);
    std::memcpy(to, &word, sizeof word);
    from += sizeof word;
    to += sizeof word;
    std::atomic_signal_fence(std::memory_order_acq_rel);  // or the compiler makes wide moves of it
  };
  for (; length >= sizeof(std::uint64_t); length -= sizeof(std::uint64_t)) move(std::uint64_t{});
  if (length & 4) move(std::uint32_t{});
  if (length & 2) move(std::uint16_t{});
  if (length & 1) move(std::uint8_t{});
}

}  // namespace verbena::core
