// SPDX-License-Identifier: Apache-2.0
/// Registered memory: what a device may read and write, and what a peer may be told of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

namespace verbena {

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

/// Memory that is registered as long as this object lives. Destroying it takes the peers' rights away first:
/// when the destructor returns, no access of a peer touches the memory any more, not even a late one.
/// Lifetime: the Loop outlives it, and so do the operations that use it. Thread safety: none.
class Region {
 public:
  Region() noexcept;
  Region(Region&&) noexcept;
  Region& operator=(Region&&) noexcept;
  ~Region();

  explicit operator bool() const noexcept { return registration_ != nullptr; }
  std::span<std::byte> bytes() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return bytes_.size(); }

  Slice slice() const noexcept { return {bytes_.data(), bytes_.size(), local_key_}; }
  /// `length` bytes from `offset`; cut to the region's end.
  Slice slice(std::size_t offset, std::size_t length) const noexcept;
  /// For the peer; what it may do is the Access of the registration.
  RemoteRegion remote() const noexcept {
    return {reinterpret_cast<std::uintptr_t>(bytes_.data()), bytes_.size(), remote_key_, 0};
  }

 private:
  friend class Memory;
  std::unique_ptr<transport::Registration> registration_;
  std::span<std::byte> bytes_;
  std::uint32_t local_key_ = 0;
  std::uint32_t remote_key_ = 0;
};

class Pool;

/// A Loop's memory: `loop.memory()`.
class Memory {
 public:
  /// `length` zeroed bytes, page-aligned, that peers on this host reach by a plain copy. Throws Error
  /// (memlock_too_small, device_failed) with the limit met.
  Region allocate(std::size_t length, Access access = Access::all);
  /// Any memory of the program: malloc'd, on the stack, mapped from a file. It must stay mapped while the
  /// Region lives. The const form is for read-only memory, mapped file pages for example: Access::remote_read
  /// at most.
  Region share(std::span<std::byte> bytes, Access access);
  Region share(std::span<const std::byte> bytes, Access access = Access::remote_read);

  /// The Loop's pool: Options::pool_bytes of registered memory (verbena/pool.h).
  Pool& pool() noexcept;

 private:
  friend class Loop;
  explicit Memory(transport::Engine& engine) noexcept : engine_(&engine) {}
  transport::Engine* engine_;
};

}  // namespace verbena
