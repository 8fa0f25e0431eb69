// SPDX-License-Identifier: Apache-2.0
/// soft0: Verbena's own RDMA device, in shared memory, for any process on any Linux host: no kernel module,
/// no root, no daemon. Reliable-connected queue pairs between processes (and threads) of one user on one
/// host.
#pragma once

#include <memory>

#include "core/device.h"

namespace verbena::core {

/// Opens it. Throws Error (device_failed) with what the system refused.
std::unique_ptr<Device> open_soft_device();

}  // namespace verbena::core
