// SPDX-License-Identifier: Apache-2.0
#include "core/soft/null_memory.h"

#include <sys/mman.h>

#include <utility>

namespace verbena::core::soft {
namespace {

constexpr std::size_t repeated = 2 << 20;
static_assert(NullMemory::span % repeated == 0);

Mapping reserve(int protection) noexcept {
  void* const at =
      ::mmap(nullptr, NullMemory::span, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? Mapping() : Mapping(at, NullMemory::span);
}

bool fill_repeatedly(const Mapping& place, const Descriptor& file) noexcept {
  for (std::size_t offset = 0; offset < place.size(); offset += repeated) {
    void* const at = static_cast<std::byte*>(place.get()) + offset;
    if (::mmap(at, repeated, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.get(), 0) == MAP_FAILED)
      return false;
  }
  return true;
}

}  // namespace

bool NullMemory::open() noexcept {
  if (sink_) return true;
  const Descriptor file = create_shared_file("verbena-soft0-null", repeated);
  Mapping zeros = reserve(PROT_READ);
  Mapping sink = reserve(PROT_NONE);
  if (!file || !zeros || !sink || !fill_repeatedly(sink, file)) return false;
  zeros_ = std::move(zeros);
  sink_ = std::move(sink);
  return true;
}

}  // namespace verbena::core::soft
