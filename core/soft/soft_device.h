// SPDX-License-Identifier: Apache-2.0
/// soft0: Verbena's own RDMA device, in shared memory, for any process on any Linux host: no kernel module,
/// no root, no daemon. Reliable-connected queue pairs between processes (and threads) of one user on one
/// host.
#pragma once

#include <memory>

#include "core/device.h"
#include "core/soft/fault_plan.h"

namespace verbena::core {

/// Opens it. Throws Error: device_failed with what the system refused; invalid_argument where the environment
/// variable VERBENA_FAULT is set, and isn't a fault plan.
std::unique_ptr<Device> open_soft_device();
/// The same with this plan, whatever the environment says.
std::unique_ptr<Device> open_soft_device(const soft::FaultPlan& plan);

}  // namespace verbena::core
