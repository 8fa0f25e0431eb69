// SPDX-License-Identifier: Apache-2.0
/// Which descriptors of this process are channels of rdma_cm: asked before each write(2) and close(2) of the
/// whole program. Any thread, and signal handlers.
#pragma once

namespace verbena::preload::rdma_cm {

/// False: a descriptor of such a number can't be one.
bool mark(int descriptor) noexcept;
/// False where it wasn't one.
bool unmark(int descriptor) noexcept;
/// Cost: a load and a test.
bool is_channel(int descriptor) noexcept;

}  // namespace verbena::preload::rdma_cm
