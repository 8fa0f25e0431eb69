// SPDX-License-Identifier: Apache-2.0
/// Which descriptors of this process are channels of rdma_cm: asked before each write(2) and close(2) of the
/// whole program. Any thread, and signal handlers.
///
/// A mark may outlive its descriptor: dup2(2), close_range(2) and others close without a word, and a child
/// inherits the marks. So what is marked is looked at once more before anything is made of it.
#pragma once

namespace verbena::preload::rdma_cm {

/// False: a descriptor of such a number can't be one.
bool mark(int descriptor) noexcept;
/// False where it wasn't one.
bool unmark(int descriptor) noexcept;
/// Cost: a load and a test; of a marked one a system call. A mark on what is no channel any more goes.
bool is_channel(int descriptor) noexcept;
/// True in the process that marked the last one. False in a child that hasn't, also in one of vfork(2), which
/// has its parent's memory: what it closes stays open in its parent.
bool is_of_this_process() noexcept;

}  // namespace verbena::preload::rdma_cm
