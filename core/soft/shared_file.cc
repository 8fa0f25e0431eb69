// SPDX-License-Identifier: Apache-2.0
#include "core/soft/shared_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "core/soft/layout.h"

namespace verbena::core::soft {

Descriptor create_shared_file(const char* name, std::size_t length) noexcept {
  Descriptor file(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return {};
  if (::ftruncate(file.get(), static_cast<off_t>(length)) != 0) return {};
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) return {};
  return file;
}

void forbid_new_writers(const Descriptor& file) noexcept {
#ifdef F_SEAL_FUTURE_WRITE
  ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE);  // a hardening: older kernels do without
#endif
}

Mapping map_own(const Descriptor& file, std::size_t length) noexcept {
  void* address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  return address == MAP_FAILED ? Mapping{} : Mapping{address, length};
}

std::size_t mappable_length(const Descriptor& file) noexcept {
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  struct stat status {};
  if (seals < 0 || !(seals & F_SEAL_SHRINK) || ::fstat(file.get(), &status) != 0) return 0;
  return static_cast<std::size_t>(status.st_size);
}

Mapping map_peers(const Descriptor& file, std::size_t length, bool writable) noexcept {
  if (length == 0 || mappable_length(file) < length) {
    errno = EINVAL;
    return {};
  }
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* address = ::mmap(nullptr, length, protection, MAP_SHARED, file.get(), 0);
  return address == MAP_FAILED ? Mapping{} : Mapping{address, length};
}

std::uint32_t ring_slots_of(const Descriptor& file) noexcept {
  const std::size_t length = mappable_length(file);
  if (length <= page_size || (length - page_size) % sizeof(Slot) != 0) return 0;
  const std::size_t slots = (length - page_size) / sizeof(Slot);
  return is_ring_length(slots) ? static_cast<std::uint32_t>(slots) : 0;
}

Mapping map_inbound(const Descriptor& file, std::uint32_t slots) noexcept {
  const std::size_t once = inbound_bytes(slots);
  const std::size_t whole = once + ring_bytes(slots);
  void* reserved = ::mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return {};
  Mapping mapping(reserved, whole);
  auto* base = static_cast<std::byte*>(reserved);
  const int flags = MAP_SHARED | MAP_FIXED;
  if (::mmap(base, once, PROT_READ | PROT_WRITE, flags, file.get(), 0) == MAP_FAILED) return {};
  if (::mmap(base + once, ring_bytes(slots), PROT_READ | PROT_WRITE, flags, file.get(), page_size) ==
      MAP_FAILED) {
    return {};
  }
  return mapping;
}

Mapping map_guard(const Descriptor& file) noexcept {
  return map_own(file, page_size);
}

}  // namespace verbena::core::soft
