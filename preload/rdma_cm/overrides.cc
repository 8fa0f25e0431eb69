// SPDX-License-Identifier: Apache-2.0
// The C library's functions by which librdmacm reaches /dev/infiniband/rdma_cm, under all names that programs
// are compiled to call them by. They have no symbol version: with one, they would stand in front of nothing,
// without a word.
//
// Nearly all may be called in signal handlers: for all other paths and descriptors nothing here does more
// than a comparison or a load in front of the real function.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstring>
#include <span>

#include "preload/rdma_cm/descriptors.h"
#include "preload/rdma_cm/manager.h"
#include "preload/real.h"

// The header's inline versions of these would be what is defined here.
#undef fstat
#undef fstat64

namespace {

using verbena::preload::rdma_cm::is_channel;
using verbena::preload::rdma_cm::is_of_this_process;
using verbena::preload::rdma_cm::Manager;
using verbena::preload::rdma_cm::unmark;

constexpr const char* device_file = "/dev/infiniband/rdma_cm";

bool is_device_file(const char* path) noexcept {
  return path && std::strcmp(path, device_file) == 0;
}

bool takes_mode(int flags) noexcept {
  return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

/// What librdmacm looks for: a character device, where there is none. Its numbers are those that the kernel
/// gives to devices that have none of their own.
template <class Stat>
int describe(Stat* status) noexcept {
  constexpr unsigned int misc_major = 10;
  constexpr unsigned int dynamic_minor = 255;
  *status = {};
  status->st_mode = S_IFCHR | 0666;
  status->st_nlink = 1;
  status->st_rdev = makedev(misc_major, dynamic_minor);
  status->st_blksize = 4096;
  return 0;
}

/// Of a channel: the kernel's own device where it has one, whose numbers librdmacm knows.
template <class Stat, class Real>
int describe_channel(int descriptor, Stat* status, Real real) noexcept {
  const int kernels = Manager::current().kernels_descriptor(descriptor);
  return kernels >= 0 ? real(kernels) : describe(status);
}

template <verbena::preload::Symbol name, class Function>
Function* next() noexcept {
  return verbena::preload::real<name, Function, "">();
}

using Open = int(const char*, int, ...);
using OpenAt = int(int, const char*, int, ...);
using OpenTwo = int(const char*, int);
using Write = ssize_t(int, const void*, std::size_t);
using Close = int(int);

using Stat = int(const char*, struct stat*);
using Stat64 = int(const char*, struct stat64*);
using FStat = int(int, struct stat*);
using FStat64 = int(int, struct stat64*);

// Looked up before a signal handler may want them: all that POSIX lets one call. The others are those of
// programs compiled with checks or long ago, which a C library may be without.
__attribute__((constructor)) void look_up() {
  next<"open", Open>();
  next<"open64", Open>();
  next<"openat", OpenAt>();
  next<"openat64", OpenAt>();
  next<"stat", Stat>();
  next<"stat64", Stat64>();
  next<"fstat", FStat>();
  next<"fstat64", FStat64>();
  next<"write", Write>();
  next<"close", Close>();
}

mode_t mode_of(int flags, va_list words) noexcept {
  return takes_mode(flags) ? va_arg(words, mode_t) : 0;
}

}  // namespace

#define VERBENA_OPEN(name)                                    \
  VERBENA_EXPORT int name(const char* path, int flags, ...) { \
    if (is_device_file(path)) [[unlikely]]                    \
      return Manager::current().open(flags);                  \
    va_list words;                                            \
    va_start(words, flags);                                   \
    const mode_t mode = mode_of(flags, words);                \
    va_end(words);                                            \
    return next<#name, Open>()(path, flags, mode);            \
  }
#define VERBENA_OPEN_AT(name)                                             \
  VERBENA_EXPORT int name(int folder, const char* path, int flags, ...) { \
    if (is_device_file(path)) [[unlikely]]                                \
      return Manager::current().open(flags);                              \
    va_list words;                                                        \
    va_start(words, flags);                                               \
    const mode_t mode = mode_of(flags, words);                            \
    va_end(words);                                                        \
    return next<#name, OpenAt>()(folder, path, flags, mode);              \
  }
// Of programs that are compiled with checks.
#define VERBENA_OPEN_TWO(name)                           \
  VERBENA_EXPORT int name(const char* path, int flags) { \
    if (is_device_file(path)) [[unlikely]]               \
      return Manager::current().open(flags);             \
    return next<#name, OpenTwo>()(path, flags);          \
  }
#define VERBENA_FSTAT(name, type)                                                                    \
  VERBENA_EXPORT int name(int descriptor, type* status) noexcept {                                   \
    auto* const real = next<#name, int(int, type*)>();                                               \
    if (!is_channel(descriptor)) [[likely]]                                                          \
      return real(descriptor, status);                                                               \
    return describe_channel(descriptor, status, [&](int kernels) { return real(kernels, status); }); \
  }
#define VERBENA_STAT(name, type)                                             \
  VERBENA_EXPORT int name(const char* path, type* status) noexcept {         \
    const int result = next<#name, int(const char*, type*)>()(path, status); \
    return result != 0 && is_device_file(path) ? describe(status) : result;  \
  }
// Of programs that were linked with a C library of before 2.33.
#define VERBENA_VERSIONED_FSTAT(name, type)                                               \
  VERBENA_EXPORT int name(int version, int descriptor, type* status) noexcept {           \
    auto* const real = next<#name, int(int, int, type*)>();                               \
    if (!is_channel(descriptor)) [[likely]]                                               \
      return real(version, descriptor, status);                                           \
    return describe_channel(descriptor, status,                                           \
                            [&](int kernels) { return real(version, kernels, status); }); \
  }

VERBENA_OPEN(open)
VERBENA_OPEN(open64)
VERBENA_OPEN_AT(openat)
VERBENA_OPEN_AT(openat64)
VERBENA_OPEN_TWO(__open_2)
VERBENA_OPEN_TWO(__open64_2)
VERBENA_FSTAT(fstat, struct stat)
VERBENA_FSTAT(fstat64, struct stat64)
VERBENA_VERSIONED_FSTAT(__fxstat, struct stat)
VERBENA_VERSIONED_FSTAT(__fxstat64, struct stat64)
VERBENA_STAT(stat, struct stat)
VERBENA_STAT(stat64, struct stat64)

VERBENA_EXPORT ssize_t write(int descriptor, const void* bytes, std::size_t count) {
  if (is_channel(descriptor)) [[unlikely]]
    return Manager::current().write(descriptor, {static_cast<const std::byte*>(bytes), count});
  return next<"write", Write>()(descriptor, bytes, count);
}

VERBENA_EXPORT int close(int descriptor) {
  if (is_channel(descriptor) && is_of_this_process() && unmark(descriptor)) [[unlikely]]
    Manager::current().close(descriptor);
  return next<"close", Close>()(descriptor);
}
