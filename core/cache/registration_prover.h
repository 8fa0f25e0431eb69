// SPDX-License-Identifier: Apache-2.0
/// Proof mode (VERBENA_CHECK_REGISTRATIONS=1): every hit is checked against the page tables, and one that is
/// of other memory than was registered stops the process, with the stack of the registration and that of the
/// hit.
///
/// What is compared, of the pages that are asked for:
///   - whether they are still under watch: a mapping that has taken the place of the registered one isn't.
///     Needs no privilege.
///   - whether pages that were there when they were registered are there (or swapped out): finds emptied
///     memory until it is touched again. Needs no privilege.
///   - the frames themselves, where they can be read (CAP_SYS_ADMIN).
/// The last two only where the registrar pins pages, which may move otherwise. So an unprivileged process
/// can't tell memory that was emptied and touched again.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/cache/entry.h"
#include "core/cache/memory_watcher.h"

namespace verbena::core {

/// What was true when an entry was registered.
struct RegistrationProof {
  std::vector<std::uint64_t> pages;  // words of /proc/self/pagemap; empty where nothing is pinned
  std::array<void*, 32> stack;
  int depth = 0;
};

/// Thread safety: every call may be made from any thread.
class RegistrationProver {
 public:
  /// nullptr unless the environment asks for it.
  static std::unique_ptr<RegistrationProver> if_wanted(const Registrar& registrar,
                                                       const MemoryWatcher& watcher);

  RegistrationProver(bool pinned, const MemoryWatcher& watcher);
  ~RegistrationProver();
  RegistrationProver(const RegistrationProver&) = delete;
  RegistrationProver& operator=(const RegistrationProver&) = delete;

  /// For an entry's `proof`, which owns it.
  RegistrationProof* record(AddressRange pages) const;
  /// Aborts unless the entry, which the caller holds, is of the memory that is mapped at `range` now.
  void check(const Entry& entry, AddressRange range) const;

 private:
  std::vector<std::uint64_t> page_words(AddressRange pages) const;

  bool pinned_;
  const MemoryWatcher& watcher_;
  int pagemap_;
};

}  // namespace verbena::core
