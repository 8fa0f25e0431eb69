// SPDX-License-Identifier: Apache-2.0
#include "core/handle.h"

#include <cstdio>
#include <cstring>

namespace verbena::core::detail {

void report_failed_destroy(Device& device, const char* kind, int error) noexcept {
  const std::string_view name = device.name();
  std::fprintf(stderr, "verbena: a %s of device %.*s could not be destroyed: %s\n", kind,
               static_cast<int>(name.size()), name.data(), std::strerror(error));
}

}  // namespace verbena::core::detail
