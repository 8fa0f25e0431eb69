// SPDX-License-Identifier: Apache-2.0
/// Owners of a file descriptor and of a mapping: all that soft0 keeps from the kernel goes through these two.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/fork.h"

namespace verbena::core::soft {

/// A forked child doesn't keep it.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : fd_(fd), mark_(fd) {}
  Descriptor(Descriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), mark_(std::move(other.mark_)), process_(other.process_) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(mark_, other.mark_);
    std::swap(process_, other.process_);
    return *this;
  }
  ~Descriptor() {
    mark_ = {};  // first
    if (fd_ >= 0 && process_.is_this()) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
  ClosedInChildren mark_;
  OfProcess process_;
};

class Mapping {
 public:
  Mapping() = default;
  Mapping(void* address, std::size_t length) noexcept : address_(address), length_(length) {}
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), length_(std::exchange(other.length_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(length_, other.length_);
    return *this;
  }
  ~Mapping() {
    if (address_) ::munmap(address_, length_);
  }
  void* get() const noexcept { return address_; }
  std::size_t size() const noexcept { return length_; }
  bool contains(const std::byte* at) const noexcept {
    const auto* begin = static_cast<const std::byte*>(address_);
    return at >= begin && at < begin + length_;
  }
  explicit operator bool() const noexcept { return address_ != nullptr; }
  /// Leaves it mapped for ever.
  void abandon() noexcept { address_ = nullptr; }

 private:
  void* address_ = nullptr;
  std::size_t length_ = 0;
};

/// A new sealed memfd of `length` zero bytes; empty with errno on failure. `read_only_for_others`: whoever is
/// passed the descriptor later can map it for reading only; map it for writing first.
Descriptor create_shared_file(const char* name, std::size_t length) noexcept;
void forbid_new_writers(const Descriptor& file) noexcept;

/// Maps `length` bytes from the file's start; empty with errno. A peer's file must be sealed against
/// shrinking and at least that long, else EINVAL: no later access can fault.
Mapping map_own(const Descriptor& file, std::size_t length) noexcept;
Mapping map_peers(const Descriptor& file, std::size_t length, bool writable) noexcept;
/// An `Inbound` segment with its ring mapped twice in a row, so that no entry splits at the ring's end.
Mapping map_inbound(const Descriptor& file, std::uint32_t slots) noexcept;
/// Slots of the ring in a peer's file; 0 where it isn't one.
std::uint32_t ring_slots_of(const Descriptor& file) noexcept;
/// The segment's first page once more: see Link::guard.
Mapping map_guard(const Descriptor& file) noexcept;
/// The length of a peer's file that is safe to map, 0 if it isn't.
std::size_t mappable_length(const Descriptor& file) noexcept;

}  // namespace verbena::core::soft
