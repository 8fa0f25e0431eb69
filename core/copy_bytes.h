// SPDX-License-Identifier: Apache-2.0
/// memcpy(3) for the data path. Mostly a few words move, and a call would cost more than they do; and some
/// long copies take it 20 times as long as others.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace verbena::core {

/// For lengths that are worth a call. glibc copies from 4 KiB on with `rep movsb` where the processor says
/// that it is fast. AMD's (family 19h at least) then makes 2 to 3 GB/s instead of 50 to 80 where `to` lies 1
/// to 31 bytes behind a page's beginning further than `from` does: each load waits for a store before it, of
/// another page, whose address looks the same in its low 12 bits. A message's header before its payload, and
/// malloc's before its memory, make such pairs. They are copied by plain loads and stores.
void copy_long(std::byte* to, const std::byte* from, std::size_t length) noexcept;

/// Short ones word by word: a wider load of bytes that were stored in narrower ones just before would wait
/// for those stores to leave the store buffer. The ranges don't overlap.
inline void copy_bytes(std::byte* to, const std::byte* from, std::size_t length) noexcept {
  constexpr std::size_t most = 64;
  if (length > most) {
    copy_long(to, from, length);
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
