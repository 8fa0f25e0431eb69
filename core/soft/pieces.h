// SPDX-License-Identifier: Apache-2.0
/// Walking a scatter/gather list.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace verbena::core::soft {

/// Calls `visit(piece, at, length)` for each run of memory that the bytes [offset, offset + length) of the
/// list lie in, in order, until one answers false. Returns how many bytes were visited: fewer than `length`
/// where the list is shorter, or where it was ended.
template <class Visit>
std::uint32_t for_each_part(std::span<const ibv_sge> pieces, std::uint32_t offset, std::uint32_t length,
                            Visit visit) {
  std::uint32_t visited = 0;
  for (const ibv_sge& piece : pieces) {
    if (visited == length) break;
    if (offset >= piece.length) {
      offset -= piece.length;
      continue;
    }
    const std::uint32_t part = std::min(length - visited, piece.length - offset);
    if (!visit(piece, reinterpret_cast<std::byte*>(piece.addr) + offset, part)) break;
    visited += part;
    offset = 0;
  }
  return visited;
}

}  // namespace verbena::core::soft
