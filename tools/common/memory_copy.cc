// SPDX-License-Identifier: Apache-2.0
#include "tools/common/memory_copy.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>

#include "tools/common/cycles.h"

namespace verbena::tools {
namespace {

double bandwidth(double bytes, Ticks started) {
  return bytes * 1e9 / std::max(1.0, to_ns(now_ticks() - started));
}

}  // namespace

double copy_once(std::span<std::byte> to, std::span<const std::byte> from, std::size_t piece) {
  assert(to.size() == from.size());
  const Ticks started = now_ticks();
  for (std::size_t at = 0; at < from.size(); at += piece)
    std::memcpy(to.data() + at, from.data() + at, std::min(piece, from.size() - at));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return bandwidth(static_cast<double>(from.size()), started);
}

double copy_again_and_again(std::span<std::byte> to, std::span<const std::byte> from, std::size_t count) {
  assert(to.size() == from.size());
  const Ticks started = now_ticks();
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(to.data(), from.data(), from.size());
    std::atomic_signal_fence(std::memory_order_seq_cst);  // each one is made, not only the last
  }
  return bandwidth(static_cast<double>(from.size()) * static_cast<double>(count), started);
}

}  // namespace verbena::tools
