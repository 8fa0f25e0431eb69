// SPDX-License-Identifier: Apache-2.0
#include "core/copy_bytes.h"

namespace verbena::core {
namespace {

/// What one instruction moves on every processor that we know.
using Vector __attribute__((vector_size(16))) = std::uint64_t;

// Four at a time, loaded before the first is stored; the last ones may be copied twice. `length`: at least
// four Vectors.
void copy_by_vectors(std::byte* to, const std::byte* from, std::size_t length) noexcept {
  constexpr std::size_t step = 4 * sizeof(Vector);
  const auto move = [&](std::size_t at) {
    Vector a, b, c, d;
    std::memcpy(&a, from + at, sizeof a);
    std::memcpy(&b, from + at + 16, sizeof b);
    std::memcpy(&c, from + at + 32, sizeof c);
    std::memcpy(&d, from + at + 48, sizeof d);
    std::memcpy(to + at, &a, sizeof a);
    std::memcpy(to + at + 16, &b, sizeof b);
    std::memcpy(to + at + 32, &c, sizeof c);
    std::memcpy(to + at + 48, &d, sizeof d);
  };
  move(0);
  // From here on stores are aligned; loads that aren't cost less.
  std::size_t at = sizeof(Vector) - reinterpret_cast<std::uintptr_t>(to) % sizeof(Vector);
  for (; at + step <= length; at += step) move(at);
  move(length - step);
}

}  // namespace

void copy_long(std::byte* to, const std::byte* from, std::size_t length) noexcept {
  constexpr std::size_t page = 4096;
  constexpr std::size_t least = 2048;  // of `rep movsb` in glibc, without AVX
  constexpr std::size_t nearest = 64;  // a line
  const std::size_t ahead =
      (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) % page;
  if (length >= least && ahead - 1 < nearest - 1) [[unlikely]] {
    copy_by_vectors(to, from, length);
  } else {
    std::memcpy(to, from, length);
  }
}

}  // namespace verbena::core
