// SPDX-License-Identifier: Apache-2.0
/// Registered memory of each kind that a program has, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/handle.h"
#include "core/shared_memory.h"

namespace verbena::test {

enum class MemoryKind {
  heap,    ///< malloc, at an odd offset
  mapped,  ///< private anonymous pages, as a thread's stack has them
  shared,  ///< SharedMemory, registered with reg_shared_mr
};

inline constexpr int full_access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                                   IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND;

/// What a peer needs to reach memory.
struct Remote {
  std::uint64_t address;
  std::uint32_t rkey;

  Remote operator+(std::size_t offset) const { return {address + offset, rkey}; }
};

class Buffer {
 public:
  Buffer(core::Device& device, ibv_pd* pd, std::size_t size, int access = full_access,
         MemoryKind kind = MemoryKind::heap);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  std::span<std::byte> bytes(std::size_t offset, std::size_t length) const {
    return bytes_.subspan(offset, length);
  }
  std::size_t size() const { return bytes_.size(); }
  /// As an entry of a scatter/gather list.
  ibv_sge piece(std::size_t offset, std::size_t length) const;
  ibv_sge piece() const { return piece(0, size()); }
  Remote remote(std::size_t offset = 0) const;
  ibv_mr* region() const { return region_.get(); }
  /// 0 or an errno value. The memory stays.
  int deregister();

  /// The 64-bit word at `offset`, as the CPU sees it now.
  std::uint64_t word(std::size_t offset = 0) const;
  void set_word(std::uint64_t value, std::size_t offset = 0);
  void fill(unsigned char value);

 private:
  core::Device& device_;
  core::SharedMemory shared_;
  void* allocation_ = nullptr;
  std::size_t mapped_length_ = 0;  // of a mapping; 0 for the heap
  std::span<std::byte> bytes_;
  core::Handle<ibv_mr> region_;
};

}  // namespace verbena::test
