// SPDX-License-Identifier: Apache-2.0
/// Memory of the program that a peer may read, for one large message.
#pragma once

#include <cstdint>
#include <utility>

#include "core/cache/registration_cache.h"
#include "transport/shared_regions.h"

namespace verbena::transport {

/// A hold on a registration: on a Region's, on one of the cache, or on the pool's. Others may hold the same.
/// Movable. Thread safety: none; it belongs to its loop, which outlives it.
class Exposure {
 public:
  Exposure() = default;
  explicit Exposure(core::Pin pin) noexcept : pin_(std::move(pin)) {}
  /// Of memory that is registered as long as its loop lives.
  explicit Exposure(std::uint32_t key) noexcept : lasting_(key) {}
  explicit Exposure(ReadRight& right) noexcept : right_(&right) { ++right.holders; }
  Exposure(Exposure&& other) noexcept
      : pin_(std::move(other.pin_)),
        right_(std::exchange(other.right_, nullptr)),
        lasting_(std::exchange(other.lasting_, 0)) {}
  Exposure& operator=(Exposure&& other) noexcept {
    Exposure taken{std::move(other)};
    std::swap(pin_, taken.pin_);
    std::swap(right_, taken.right_);
    std::swap(lasting_, taken.lasting_);
    return *this;
  }
  ~Exposure() { end(); }

  explicit operator bool() const noexcept {
    return lasting_ != 0 || right_ != nullptr || static_cast<bool>(pin_);
  }
  /// The peer's key. Of one that holds something, as the next one.
  std::uint32_t key() const noexcept {
    if (lasting_ != 0) return lasting_;
    return right_ ? right_->region->rkey : pin_.rkey();
  }
  /// The Region's registration; nullptr for one of the cache.
  const ibv_mr* region() const noexcept { return right_ ? right_->region.get() : nullptr; }

  /// For a peer that has said that it is done, or can't reach anything any more: the registration may stay.
  void end() noexcept {
    lasting_ = 0;
    pin_.release();
    if (right_) leave();
  }
  /// For a peer that must not read any more. True: it can't. False: it can, because others hold the
  /// registration, and so does this still: then its queue pair has to end.
  bool revoke() noexcept;

 private:
  void leave() noexcept;

  core::Pin pin_;
  ReadRight* right_ = nullptr;
  std::uint32_t lasting_ = 0;
};

}  // namespace verbena::transport
