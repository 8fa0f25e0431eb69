// SPDX-License-Identifier: Apache-2.0
// Uses an installed Verbena as a user does: public headers only.
#include <verbena/devices.h>
#include <verbena/error.h>

#include <cstdio>

int main() {
  for (const verbena::DeviceInfo& device : verbena::describe_devices()) {
    std::printf("%s: %s\n", device.name.c_str(), device.problem.empty() ? "usable" : device.problem.c_str());
    if (device.name == "soft0" && device.problem.empty()) return 0;
  }
  std::fprintf(stderr, "%s\n", make_error_code(verbena::errc::device_not_found).message().c_str());
  return 1;
}
