// SPDX-License-Identifier: Apache-2.0
// The list of devices with soft0 at its end, and what is asked of a device that hasn't been opened.
#include <infiniband/verbs.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>

#include "core/soft/soft_device.h"
#include "preload/real.h"
#include "verbena/error.h"

// The header's macros of these names call what is defined here.
#undef ibv_get_device_list

using verbena::core::Device;
using verbena::core::PeerDeath;
using verbena::core::soft_device_entry;
using verbena::core::soft_device_of;

namespace {

bool is_soft(const ibv_device* device) noexcept {
  return device == &soft_device_entry();
}

// A list is ours from its first word on, which the program doesn't see: libibverbs' own list, or null. So the
// real devices are given back as they were taken.
constexpr std::size_t hidden = 1;

}  // namespace

VERBENA_EXPORT ibv_device** ibv_get_device_list(int* count) {
  int real_count = 0;
  // Null where the kernel has no RDMA: no real devices, then.
  ibv_device** const listed = REAL(ibv_get_device_list)(&real_count);
  const std::size_t reals = listed ? static_cast<std::size_t>(real_count) : 0;
  auto** const all = new (std::nothrow) ibv_device*[hidden + reals + 2];
  if (!all) {
    if (listed) REAL(ibv_free_device_list)(listed);
    errno = ENOMEM;
    return nullptr;
  }
  all[0] = reinterpret_cast<ibv_device*>(listed);
  std::copy_n(listed, reals, all + hidden);
  all[hidden + reals] = &soft_device_entry();
  all[hidden + reals + 1] = nullptr;
  if (count) *count = real_count + 1;
  return all + hidden;
}

VERBENA_EXPORT void ibv_free_device_list(ibv_device** list) {
  if (!list) return;
  ibv_device** const all = list - hidden;
  if (all[0]) {
    auto** const listed = reinterpret_cast<ibv_device**>(all[0]);
    REAL(ibv_free_device_list)(listed);
  }
  delete[] all;
}

VERBENA_EXPORT const char* ibv_get_device_name(ibv_device* device) {
  if (is_soft(device)) return device->name;
  return REAL(ibv_get_device_name)(device);
}

VERBENA_EXPORT int ibv_get_device_index(ibv_device* device) {
  if (is_soft(device)) return -1;  // the kernel has no number for it
  return REAL(ibv_get_device_index, "IBVERBS_1.9")(device);
}

VERBENA_EXPORT __be64 ibv_get_device_guid(ibv_device* device) {
  if (is_soft(device)) return verbena::core::soft_device_guid();
  return REAL(ibv_get_device_guid)(device);
}

VERBENA_EXPORT ibv_context* ibv_open_device(ibv_device* device) {
  if (!is_soft(device)) return REAL(ibv_open_device)(device);
  try {
    return verbena::core::open_soft_device(PeerDeath::after_timeout).release()->context();
  } catch (const verbena::Error& error) {
    std::fprintf(stderr, "libverbena-ibverbs: %s\n", error.what());
    errno = error.code() == verbena::errc::invalid_argument ? EINVAL : EIO;
  } catch (const std::exception&) {
    errno = ENOMEM;
  }
  return nullptr;
}

VERBENA_EXPORT int ibv_close_device(ibv_context* context) {
  Device* const soft = soft_device_of(context);
  if (!soft) return REAL(ibv_close_device)(context);
  delete soft;
  return 0;
}
