// SPDX-License-Identifier: Apache-2.0
// Protection domains and memory regions. Windows need nothing here: libibverbs' inline functions find them in
// the context.
#include <infiniband/verbs.h>

#include <cerrno>
#include <cstdint>

#include "core/soft/soft_device.h"
#include "preload/real.h"

// The header's macros of these names choose between what is defined here.
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

using verbena::core::Device;
using verbena::core::soft_device_of;

namespace {

/// Bits that a device may leave out of account; those that soft0 knows nothing of are dropped, as a kernel
/// does.
constexpr int understood_optional = IBV_ACCESS_RELAXED_ORDERING;
constexpr int optional_bits = IBV_ACCESS_OPTIONAL_RANGE & ~understood_optional;

template <class T>
T* not_supported() {
  errno = EOPNOTSUPP;
  return nullptr;
}

}  // namespace

VERBENA_EXPORT ibv_pd* ibv_alloc_pd(ibv_context* context) {
  if (Device* const soft = soft_device_of(context)) return soft->alloc_pd();
  return REAL(ibv_alloc_pd)(context);
}

VERBENA_EXPORT int ibv_dealloc_pd(ibv_pd* pd) {
  if (Device* const soft = soft_device_of(pd->context)) return soft->dealloc_pd(pd);
  return REAL(ibv_dealloc_pd)(pd);
}

VERBENA_EXPORT ibv_mr* ibv_reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) {
  if (Device* const soft = soft_device_of(pd->context)) return soft->reg_mr(pd, address, length, access);
  return REAL(ibv_reg_mr)(pd, address, length, access);
}

VERBENA_EXPORT ibv_mr* ibv_reg_mr_iova(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova,
                                       int access) {
  if (Device* const soft = soft_device_of(pd->context))
    return soft->reg_mr_iova(pd, address, length, iova, access);
  return REAL(ibv_reg_mr_iova, "IBVERBS_1.7")(pd, address, length, iova, access);
}

VERBENA_EXPORT ibv_mr* ibv_reg_mr_iova2(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova,
                                        unsigned int access) {
  if (Device* const soft = soft_device_of(pd->context))
    return soft->reg_mr_iova(pd, address, length, iova, static_cast<int>(access) & ~optional_bits);
  return REAL(ibv_reg_mr_iova2, "IBVERBS_1.8")(pd, address, length, iova, access);
}

VERBENA_EXPORT ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* pd, std::uint64_t offset, std::size_t length,
                                         std::uint64_t iova, int fd, int access) {
  if (soft_device_of(pd->context)) return not_supported<ibv_mr>();
  return REAL(ibv_reg_dmabuf_mr, "IBVERBS_1.12")(pd, offset, length, iova, fd, access);
}

VERBENA_EXPORT int ibv_rereg_mr(ibv_mr* mr, int flags, ibv_pd* pd, void* address, std::size_t length,
                                int access) {
  if (Device* const soft = soft_device_of(mr->context))
    return soft->rereg_mr(mr, flags, pd, address, length, access & ~optional_bits);
  return REAL(ibv_rereg_mr)(mr, flags, pd, address, length, access);
}

VERBENA_EXPORT int ibv_dereg_mr(ibv_mr* mr) {
  if (Device* const soft = soft_device_of(mr->context)) return soft->dereg_mr(mr);
  return REAL(ibv_dereg_mr)(mr);
}

// ---- Importing, of what another process has made: soft0's objects are their process's own ----

VERBENA_EXPORT ibv_pd* ibv_import_pd(ibv_context* context, std::uint32_t handle) {
  if (soft_device_of(context)) return not_supported<ibv_pd>();
  return REAL(ibv_import_pd, "IBVERBS_1.10")(context, handle);
}

VERBENA_EXPORT ibv_mr* ibv_import_mr(ibv_pd* pd, std::uint32_t handle) {
  if (soft_device_of(pd->context)) return not_supported<ibv_mr>();
  return REAL(ibv_import_mr, "IBVERBS_1.10")(pd, handle);
}

VERBENA_EXPORT ibv_dm* ibv_import_dm(ibv_context* context, std::uint32_t handle) {
  if (soft_device_of(context)) return not_supported<ibv_dm>();
  return REAL(ibv_import_dm, "IBVERBS_1.13")(context, handle);
}

// Of soft0 there is nothing imported to be given back.

VERBENA_EXPORT void ibv_unimport_pd(ibv_pd* pd) {
  if (!soft_device_of(pd->context)) REAL(ibv_unimport_pd, "IBVERBS_1.10")(pd);
}

VERBENA_EXPORT void ibv_unimport_mr(ibv_mr* mr) {
  if (!soft_device_of(mr->context)) REAL(ibv_unimport_mr, "IBVERBS_1.10")(mr);
}

VERBENA_EXPORT void ibv_unimport_dm(ibv_dm* dm) {
  if (!soft_device_of(dm->context)) REAL(ibv_unimport_dm, "IBVERBS_1.13")(dm);
}
