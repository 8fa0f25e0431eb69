// SPDX-License-Identifier: Apache-2.0
#include "core/cache/device_registrar.h"

#include <cerrno>

namespace verbena::core {

int DeviceRegistrar::add(AddressRange range, int access, Registration& registration) noexcept {
  ibv_mr* const region = device_.reg_mr(pd_, reinterpret_cast<void*>(range.begin), range.size(), access);
  if (region == nullptr) return errno;
  registration = {region, region->lkey, region->rkey};
  return 0;
}

int DeviceRegistrar::remove(const Registration& registration) noexcept {
  return device_.dereg_mr(static_cast<ibv_mr*>(registration.object));
}

}  // namespace verbena::core
