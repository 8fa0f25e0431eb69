// SPDX-License-Identifier: Apache-2.0
/// What the registration cache needs of a device: to register memory, and to take that back.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/cache/address_range.h"

namespace verbena::core {

/// What a device knows of registered memory. `object` is the registrar's own, and not null.
struct Registration {
  void* object = nullptr;
  std::uint32_t lkey = 0;
  std::uint32_t rkey = 0;
};

/// Thread safety: every call may be made from any thread. A call may allocate and free memory, and unmap it:
/// the cache holds no lock meanwhile that an unmapping thread could wait for.
class Registrar {
 public:
  virtual ~Registrar() = default;

  /// For errors: the device's name.
  virtual std::string_view name() const noexcept = 0;
  /// Whether registered pages keep their frames, as a DMA engine needs it.
  virtual bool pins() const noexcept = 0;
  /// Registers `range`, whole pages, with `access` (IBV_ACCESS_…). 0, or an errno value: ENOMEM means a limit
  /// on locked memory, and that fewer registrations could help.
  virtual int add(AddressRange range, int access, Registration& registration) noexcept = 0;
  /// When this returns 0, no access of a peer touches the memory any more. Else an errno value.
  virtual int remove(const Registration& registration) noexcept = 0;
};

}  // namespace verbena::core
