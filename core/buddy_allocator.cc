// SPDX-License-Identifier: Apache-2.0
#include "core/buddy_allocator.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace verbena::core {

BuddyAllocator::BuddyAllocator(std::size_t bytes)
    : lines_(bytes / smallest),
      states_memory_(lines_ == 0 ? OwnMemory{} : OwnMemory{lines_}),
      next_memory_(lines_ == 0 ? OwnMemory{} : OwnMemory{lines_ * sizeof(Line)}),
      states_(static_cast<std::uint8_t*>(states_memory_.data())),
      next_(static_cast<Line*>(next_memory_.data())) {
  assert(bytes <= most_bytes && "more than its lines can be numbered");
  free_.fill(none);
  // The largest blocks that begin where they may, from the front on.
  for (std::size_t at = 0; at < lines_;) {
    const auto left = static_cast<unsigned>(std::bit_width(lines_ - at)) - 1;
    const auto order = at == 0 ? left : std::min(left, static_cast<unsigned>(std::countr_zero(at)));
    push(static_cast<Line>(at), order);
    at += std::size_t{1} << order;
  }
}

unsigned BuddyAllocator::order_for(std::size_t length) noexcept {
  const std::size_t lines = length / smallest + (length % smallest != 0);
  return lines <= 1 ? 0 : static_cast<unsigned>(std::bit_width(lines - 1));
}

void BuddyAllocator::push(Line line, unsigned order) noexcept {
  states_[line] = static_cast<std::uint8_t>(free | order);
  next_[line] = free_[order];
  free_[order] = line;
}

BuddyAllocator::Line BuddyAllocator::pop(unsigned order) noexcept {
  const Line line = free_[order];
  if (line != none) free_[order] = next_[line];
  return line;
}

std::optional<std::size_t> BuddyAllocator::take(std::size_t length) noexcept {
  const unsigned order = order_for(length);
  if (order >= orders) return std::nullopt;
  if (free_[order] == none && !refill(order)) [[unlikely]]
    return std::nullopt;
  const Line line = pop(order);
  states_[line] = static_cast<std::uint8_t>(taken | order);
  in_use_ += smallest << order;
  most_in_use_ = std::max(most_in_use_, in_use_);
  return line * smallest;
}

void BuddyAllocator::give(std::size_t offset) noexcept {
  assert(offset % smallest == 0 && offset / smallest < lines_ && "not of this range");
  const auto line = static_cast<Line>(offset / smallest);
  Line first = returned_.load(std::memory_order_relaxed);  // a guess: the exchange decides
  do {
    next_[line] = first;
    // Release: what the giver did with the block, and its link, come before the next taker's use of it.
  } while (
      !returned_.compare_exchange_weak(first, line, std::memory_order_release, std::memory_order_relaxed));
}

/// Puts what has come back under its sizes.
void BuddyAllocator::collect() noexcept {
  // A look first, so that the line isn't written for nothing. Relaxed: the exchange below decides.
  if (returned_.load(std::memory_order_relaxed) == none) return;
  // Acquire, against give().
  for (Line line = returned_.exchange(none, std::memory_order_acquire); line != none;) {
    const Line next = next_[line];
    assert((states_[line] & taken) != 0 && "given back twice, or not the start of a block");
    const unsigned order = states_[line] & order_mask;
    in_use_ -= smallest << order;
    push(line, order);
    line = next;
    worth_joining_ = true;
  }
}

bool BuddyAllocator::refill(unsigned order) noexcept {
  collect();
  if (free_[order] != none || split(order)) return true;
  if (!std::exchange(worth_joining_, false)) return false;
  join_all();
  return free_[order] != none || split(order);
}

/// Makes a block of that order out of the smallest larger one.
bool BuddyAllocator::split(unsigned order) noexcept {
  unsigned larger = order + 1;
  while (larger < orders && free_[larger] == none) ++larger;
  if (larger >= orders) return false;
  const Line line = pop(larger);
  while (larger > order) {
    --larger;
    push(line + (Line{1} << larger), larger);
  }
  push(line, order);
  return true;
}

/// In the order of their addresses, so that a block's lower neighbour, if it is free and as large, has been
/// put last.
void BuddyAllocator::join_all() noexcept {
  free_.fill(none);
  for (std::size_t at = 0; at < lines_;) {
    const std::uint8_t state = states_[at];
    const unsigned order = state & order_mask;
    assert((state & (taken | free)) != 0 && "not the start of a block");
    if ((state & free) != 0) put_joined(static_cast<Line>(at), order);
    at += std::size_t{1} << order;
  }
}

void BuddyAllocator::put_joined(Line line, unsigned order) noexcept {
  while ((line >> order & 1) != 0 && free_[order] == line - (Line{1} << order)) {
    states_[line] = 0;
    line = pop(order);
    ++order;
  }
  push(line, order);
}

}  // namespace verbena::core
