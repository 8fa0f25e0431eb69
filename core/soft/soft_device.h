// SPDX-License-Identifier: Apache-2.0
/// soft0: Verbena's own RDMA device, in shared memory, for any process on any Linux host: no kernel module,
/// no root, no daemon. Reliable-connected queue pairs between processes (and threads) of one user on one
/// host.
#pragma once

#include <memory>

#include "core/device.h"
#include "core/soft/fault_plan.h"

namespace verbena::core {

/// When a queue pair whose peer process has died, and that waits for nothing of it, fails.
enum class PeerDeath {
  at_once,        ///< as soon as the system says so: a program hears of it in time
  after_timeout,  ///< when a device would have given up, had there been something to send: a program that was
                  ///< written for hardware may be about to end in peace, too
};

/// Opens it. Throws Error: device_failed with what the system refused; invalid_argument where the environment
/// variable VERBENA_FAULT is set, and isn't a fault plan.
std::unique_ptr<Device> open_soft_device(PeerDeath death = PeerDeath::at_once);
/// The same with this plan, whatever the environment says.
std::unique_ptr<Device> open_soft_device(const soft::FaultPlan& plan);

/// soft0 as a listing shows it: one for the whole program, and every soft0 that is opened points to it.
ibv_device& soft_device_entry() noexcept;
__be64 soft_device_guid() noexcept;
/// Whose context this is; nullptr where it isn't a soft0 of this program. Any thread; the context lives.
Device* soft_device_of(const ibv_context* context) noexcept;

}  // namespace verbena::core
