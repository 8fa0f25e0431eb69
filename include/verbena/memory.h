// SPDX-License-Identifier: Apache-2.0
/// Registered memory: what a device may read and write, and what a peer may be told of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>
#include <type_traits>

namespace verbena {

namespace core {
class Pin;
}
namespace transport {
class Engine;
struct Registration;
}  // namespace transport

/// What may be done with a Region; combine with `|`. The device of its own Loop may always read it.
enum class Access : std::uint8_t {
  local = 0,
  local_write = 1,
  remote_read = 2,
  remote_write = 4 | 1,   ///< implies local_write, as verbs ask
  remote_atomic = 8 | 1,  ///< implies local_write
  all = 15,
};
constexpr Access operator|(Access a, Access b) noexcept {
  return static_cast<Access>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
constexpr bool allows(Access granted, Access wanted) noexcept {
  return (static_cast<std::uint8_t>(granted) & static_cast<std::uint8_t>(wanted)) ==
         static_cast<std::uint8_t>(wanted);
}

/// A piece of registered local memory: what one-sided operations and gather lists are made of.
struct Slice {
  std::byte* data = nullptr;
  std::size_t length = 0;
  std::uint32_t key = 0;  ///< the device's local key
};

/// What a peer needs to reach a Region: a plain value to send to it, the same bytes on every machine
/// (little-endian).
struct RemoteRegion {
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  std::uint32_t key = 0;  ///< the device's remote key
  std::uint32_t reserved = 0;
};
static_assert(std::is_trivially_copyable_v<RemoteRegion> && sizeof(RemoteRegion) == 24);

/// Memory that is registered as long as this object lives, or until revoke(). Either takes the peers' rights
/// away: on return no access of a peer touches the memory any more, not even a late one.
/// Lifetime: the Loop outlives it, and it outlives the operations that use it. Thread safety: none.
class Region {
 public:
  Region() noexcept;
  Region(Region&&) noexcept;
  Region& operator=(Region&&) noexcept;
  ~Region();

  explicit operator bool() const noexcept { return registration_ != nullptr; }
  /// What the program itself can touch: all of it, but nothing of a dma-buf.
  std::span<std::byte> bytes() const noexcept {
    return mapped_ ? std::span(data_, size_) : std::span<std::byte>{};
  }
  std::size_t size() const noexcept { return size_; }

  Slice slice() const noexcept { return {data_, size_, local_key_}; }
  /// `length` bytes from `offset`; cut to the region's end.
  Slice slice(std::size_t offset, std::size_t length) const noexcept;
  /// For the peer; what it may do is the Access of the registration.
  RemoteRegion remote() const noexcept {
    return {reinterpret_cast<std::uintptr_t>(data_), size_, remote_key_, 0};
  }

  /// Takes the memory back from the peers, and the keys from it: slices and remote() have key 0 from then on.
  /// The memory stays, and may be shared anew. An access of a peer that comes later completes there with
  /// remote_access, which ends the connection that it came by, on both sides; the other connections, and the
  /// memory, don't notice. Waits for accesses under way; for a peer that is stopped in the middle of one a
  /// second at most. This side's own operations on it have completed before.
  /// Errors: device_failed: the device didn't do it, and peers may still reach the memory; try again.
  std::error_code revoke() noexcept;

 private:
  friend class Memory;
  Region(std::unique_ptr<transport::Registration> registration, std::byte* data, std::size_t size) noexcept;

  std::unique_ptr<transport::Registration> registration_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool mapped_ = true;
  std::uint32_t local_key_ = 0;
  std::uint32_t remote_key_ = 0;
};

/// A hold on one of the registrations that a Loop keeps of the program's memory, for gather lists and for
/// many operations on the same bytes: docs/registration-cache.md. It is of what was mapped there when it was
/// made; unmapped memory stays the device's until this ends. A Client that is closed while a reply is read to
/// the same memory (CallOptions::reply_into) ends it early: its key is refused from then on. Lifetime: the
/// Loop outlives it, and it outlives the operations that use it. Thread safety: none.
class Pinned {
 public:
  Pinned() noexcept;
  Pinned(Pinned&&) noexcept;
  Pinned& operator=(Pinned&&) noexcept;
  ~Pinned();

  explicit operator bool() const noexcept { return pin_ != nullptr; }
  Slice slice() const noexcept { return slice_; }

 private:
  friend class Memory;
  std::unique_ptr<core::Pin> pin_;
  Slice slice_;
};

class Pool;

/// A Loop's memory: `loop.memory()`.
class Memory {
 public:
  /// `length` zeroed bytes, page-aligned, that peers on this host reach by a plain copy. Throws Error
  /// (memlock_too_small, device_failed) with the limit met.
  Region allocate(std::size_t length, Access access = Access::all);
  /// Any memory of the program, which stays mapped while the Region lives: malloc'd, on the stack, a segment
  /// that other processes map too (memfd_create, shm_open, SysV), a mapped file. What peers write to a shared
  /// segment or file is seen by all who map it. Map a file that is only read with
  /// MAP_PRIVATE, as devices want it (docs/memory.md). It mustn't become shorter meanwhile: on soft0 peers'
  /// accesses behind its end fail (remote_operation), on other devices they go on with the pages that it had.
  /// The const form is for read-only memory, mapped file pages for example: Access::remote_read at most.
  /// Peers reach exactly `bytes`. Throws Error: memlock_too_small, invalid_argument (nothing is mapped there,
  /// or the mapping lacks the rights: devices that pin memory tell, soft0 when it is reached), device_failed.
  Region share(std::span<std::byte> bytes, Access access);
  Region share(std::span<const std::byte> bytes, Access access = Access::remote_read);
  /// Memory of another device, a GPU's for example, by the dma-buf that its driver gives out: `length` bytes
  /// from `offset` on. Peers and this side's one-sided operations reach it; bytes() is empty. `fd` may be
  /// closed afterwards. Throws Error: not_supported where device, driver or kernel can't (soft0 and SoftRoCE
  /// can't), else as share.
  Region share_dmabuf(int fd, std::uint64_t offset, std::size_t length, Access access);

  /// Any memory of the program, for this side's operations alone: a registration that is kept for the next
  /// time, or a new one. `access`: local, or local_write for what is written to. Cost where one is kept: a
  /// lookup, a short system call, an allocation. Throws Error: as share.
  Pinned pin(std::span<std::byte> bytes, Access access = Access::local_write);

  /// The Loop's pool: Options::pool_bytes of registered memory (verbena/pool.h).
  Pool& pool() noexcept;

 private:
  friend class Loop;
  explicit Memory(transport::Engine& engine) noexcept : engine_(&engine) {}
  transport::Engine* engine_;
};

}  // namespace verbena
