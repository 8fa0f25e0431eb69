// SPDX-License-Identifier: Apache-2.0
#include "transport/pinned_operations.h"

#include <new>
#include <utility>

namespace verbena::transport {

PinnedOperations::Pinned* PinnedOperations::begin(std::span<const std::byte> bytes, int access,
                                                  Operation& done, errc& error) noexcept {
  if (!free_ && !grow()) {
    error = errc::no_buffer;
    return nullptr;
  }
  core::Pin pin = registrations_.pin_early(bytes, access, error);
  if (!pin) return nullptr;
  Pinned& pinned = *std::exchange(free_, static_cast<Pinned*>(free_->next));
  pinned.done_ = &done;
  pinned.pin_ = std::move(pin);
  pinned.bytes_ = bytes;
  pinned.access_ = access;
  unconfirmed_.push_back(&pinned);  // grow() has made the room
  return &pinned;
}

void PinnedOperations::queued(SendSlot& slot) noexcept {
  unconfirmed_.back()->slot_ = &slot;
}

// Whose registration has gone meanwhile gets another one. Where none can be had, the key of nothing: the
// device refuses the work request, which is right for memory that isn't there.
void PinnedOperations::confirm() noexcept {
  const bool settled = unconfirmed_.empty() || registrations_.settle();
  for (Pinned* const pinned : unconfirmed_) {
    SendSlot& slot = *std::exchange(pinned->slot_, nullptr);
    if (settled && pinned->pin_.current()) [[likely]]
      continue;
    errc error{};
    pinned->pin_.release();  // first: at the limit on locked memory the new one may need its room
    pinned->pin_ = registrations_.pin(pinned->bytes_, pinned->access_, error);
    slot.pieces[0].lkey = pinned->pin_ ? pinned->pin_.lkey() : 0;
  }
  unconfirmed_.clear();
}

bool PinnedOperations::grow() noexcept {
  try {
    all_.push_back(std::make_unique<Pinned>(*this));
    unconfirmed_.reserve(all_.capacity());
  } catch (const std::bad_alloc&) {
    return false;
  }
  give(*all_.back());
  return true;
}

void PinnedOperations::give(Pinned& pinned) noexcept {
  pinned.next = free_;
  free_ = &pinned;
}

void PinnedOperations::Pinned::completed(Operation* self, std::error_code error, std::size_t bytes) noexcept {
  auto& pinned = *static_cast<Pinned*>(self);
  PinnedOperations& owner = pinned.owner_;
  if (std::exchange(pinned.slot_, nullptr)) [[unlikely]]  // its connection was lost before it was posted
    std::erase(owner.unconfirmed_, &pinned);
  pinned.pin_.release();
  Operation* const done = pinned.done_;
  owner.give(pinned);
  done->complete(done, error, bytes);
}

}  // namespace verbena::transport
