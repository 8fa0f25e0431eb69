// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/cache/registrar.h"
#include "core/device.h"

namespace verbena::core {

/// Registers in a protection domain of a device. Lifetime: both outlive it.
class DeviceRegistrar final : public Registrar {
 public:
  DeviceRegistrar(Device& device, ibv_pd* pd) noexcept : device_(device), pd_(pd) {}

  std::string_view name() const noexcept override { return device_.name(); }
  bool pins() const noexcept override { return device_.kind() == DeviceKind::hca; }
  int add(AddressRange range, int access, Registration& registration) noexcept override;
  int remove(const Registration& registration) noexcept override;

 private:
  Device& device_;
  ibv_pd* pd_;
};

}  // namespace verbena::core
