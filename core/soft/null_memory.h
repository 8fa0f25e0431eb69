// SPDX-License-Identifier: Apache-2.0
/// What stands behind null regions: as many zeros as a message may have, and as much room for bytes that
/// nobody wants.
#pragma once

#include <cstddef>

#include "core/soft/shared_file.h"

namespace verbena::core::soft {

/// It takes addresses, not memory: the zeros are the kernel's one page of them, the room is the same 2 MiB
/// again and again. Guarded by its owner.
class NullMemory {
 public:
  static constexpr std::size_t span = std::size_t{1} << 31;  ///< IBTA: a message is at most 2^31 bytes

  /// Maps both, the first time. False without room for that.
  bool open() noexcept;
  void* zeros() const noexcept { return zeros_.get(); }  ///< `span` bytes, to be read
  void* sink() const noexcept { return sink_.get(); }    ///< `span` bytes, to be written

 private:
  Mapping zeros_;
  Mapping sink_;
};

}  // namespace verbena::core::soft
