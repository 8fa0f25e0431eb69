// SPDX-License-Identifier: Apache-2.0
// Programs that load libibverbs themselves, by dlopen(3), would look for its functions in it and nowhere
// else: they get this library instead, whose functions stand in front of libibverbs'.
//
// The override has no symbol version: with one, it would stand in front of nothing, without a word.
#include <dlfcn.h>

#include <string_view>

#include "preload/real.h"

namespace {

bool is_libibverbs(const char* file) noexcept {
  if (!file) return false;
  std::string_view name(file);
  if (const std::size_t slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  return name == "libibverbs.so" || name.starts_with("libibverbs.so.1");
}

/// Where this library was loaded from; it stays loaded as long as the program runs.
const char* own_file() noexcept {
  Dl_info found{};
  return ::dladdr(reinterpret_cast<void*>(&own_file), &found) ? found.dli_fname : nullptr;
}

}  // namespace

// The call at the end leaves no frame of ours behind: the real function looks at who called it for where to
// search.
VERBENA_EXPORT void* dlopen(const char* file, int mode) noexcept {
  auto* const next = verbena::preload::real<"dlopen", void*(const char*, int) noexcept, "">();
  if (is_libibverbs(file)) [[unlikely]]
    file = own_file();
  return next(file, mode);
}
