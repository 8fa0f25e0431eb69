// SPDX-License-Identifier: Apache-2.0
#include "preload/real.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

namespace verbena::preload {

void* find_next(const char* symbol, const char* version) noexcept {
  void* const found = *version ? ::dlvsym(RTLD_NEXT, symbol, version) : ::dlsym(RTLD_NEXT, symbol);
  if (found) return found;
  std::fprintf(
      stderr,
      "libverbena-ibverbs: this machine's libraries have no %s%s%s, which the program calls for a device "
      "other than soft0; install a libibverbs (rdma-core) that has it\n",
      symbol, *version ? " of version " : "", version);
  std::abort();
}

}  // namespace verbena::preload
