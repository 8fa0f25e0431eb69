// SPDX-License-Identifier: Apache-2.0
/// Registered memory to build messages in: what lies in a Loop's pool leaves without a copy and without being
/// registered again.
///
///     Options options;
///     options.pool_bytes = 64 << 20;                                     // declared, and no more
///     Loop loop{options};
///     std::pmr::vector<double> numbers{&loop.memory().pool()};
///     fill(numbers);
///     const auto bytes = std::as_bytes(std::span{numbers});
///     connection.send(bytes, done);                                      // read by the peer where it lies
///     connection.put(loop.memory().pool().slice(bytes), theirs, 0, done);
///     client.call(method, bytes, done);                                  // on one host: lent to its handler
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>

#include "verbena/memory.h"

namespace verbena {

namespace transport {
class PoolMemory;
}

/// Blocks of one Loop's declared memory, in sizes of powers of two from 64 bytes on. A block of 2^n bytes
/// begins at a multiple of 2^n, up to the page's size. Nothing is ever taken from elsewhere: where no block
/// is left, take() says so, and allocate() throws Error (no_buffer).
///
/// Peers may read a message in the pool by the pool's own key, which reaches all of the pool. Memory that one
/// peer is to reach and no other is a Region's.
///
/// Thread: take(), allocate() and the figures are the Loop's thread's; give(), deallocate() and slice() any
/// thread's. Lifetime: until the Loop ends; a container in the pool is destroyed before it.
class Pool final : public std::pmr::memory_resource {
 public:
  explicit Pool(transport::PoolMemory& memory) noexcept : memory_(&memory) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// At least `length` bytes, of any content; nullptr where there is no such block (no_buffer).
  std::byte* take(std::size_t length) noexcept;
  /// Takes back what take() returned, once.
  void give(std::byte* block) noexcept;

  /// For one-sided operations and gather lists: `bytes`, which lie in the pool, with its key. An empty Slice
  /// where they don't.
  Slice slice(std::span<const std::byte> bytes) const noexcept;
  bool contains(std::span<const std::byte> bytes) const noexcept;

  struct Figures {
    std::size_t capacity = 0;     ///< bytes: Options::pool_bytes, in whole pages
    std::size_t in_use = 0;       ///< bytes of blocks that are out, as rounded up to their sizes
    std::size_t most_in_use = 0;  ///< the most of that at a take
    std::uint64_t exhausted = 0;  ///< how often there was no block
    bool huge_pages = false;  ///< false where the system had none to give, or it isn't a multiple of 2 MiB
  };
  Figures figures() const noexcept;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override;
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  transport::PoolMemory* memory_;
};

}  // namespace verbena
