// SPDX-License-Identifier: Apache-2.0
#include "verbena/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "transport/engine.h"

namespace verbena {
namespace {

int verbs_access(Access access) {
  int flags = 0;
  if (allows(access, Access::local_write)) flags |= IBV_ACCESS_LOCAL_WRITE;
  if (allows(access, Access::remote_read)) flags |= IBV_ACCESS_REMOTE_READ;
  if (allows(access, Access::remote_write)) flags |= IBV_ACCESS_REMOTE_WRITE;
  if (allows(access, Access::remote_atomic)) flags |= IBV_ACCESS_REMOTE_ATOMIC;
  return flags;
}

/// Throws where there is no `mr`.
core::Handle<ibv_mr> checked(core::Device& device, ibv_mr* mr, const char* verb, std::size_t length) {
  if (!mr) core::throw_verb_error(device.name(), verb, errno, fmt::format("{} bytes", length));
  return {device, mr};
}

}  // namespace

Region::Region() noexcept = default;
Region::Region(Region&&) noexcept = default;
Region& Region::operator=(Region&&) noexcept = default;
Region::~Region() = default;

Region::Region(std::unique_ptr<transport::Registration> registration, std::byte* data,
               std::size_t size) noexcept
    : registration_(std::move(registration)),
      data_(data),
      size_(size),
      local_key_(registration_->region->lkey),
      remote_key_(registration_->region->rkey) {}

Pinned::Pinned() noexcept = default;
Pinned::Pinned(Pinned&&) noexcept = default;
Pinned& Pinned::operator=(Pinned&&) noexcept = default;
Pinned::~Pinned() = default;

Slice Region::slice(std::size_t offset, std::size_t length) const noexcept {
  offset = std::min(offset, size_);
  return {data_ + offset, std::min(length, size_ - offset), local_key_};
}

std::error_code Region::revoke() noexcept {
  if (!registration_) return {};
  if (registration_->region && !registration_->region.is_of_this_process())
    return make_error_code(errc::other_process);
  if (registration_->region.destroy() != 0) return make_error_code(errc::device_failed);
  local_key_ = remote_key_ = 0;
  return {};
}

Region Memory::allocate(std::size_t length, Access access) {
  engine_->require_this_process();
  auto registration = std::make_unique<transport::Registration>(core::SharedMemory(length));
  core::Device& device = engine_->device();
  ibv_mr* const mr = device.reg_shared_mr(engine_->pd(), registration->memory.range(), verbs_access(access));
  registration->region = checked(device, mr, "ibv_reg_mr", length);
  engine_->shared_regions().add(*registration);
  std::byte* const data = registration->memory.data();
  return {std::move(registration), data, length};
}

Region Memory::share(std::span<std::byte> bytes, Access access) {
  engine_->require_this_process();
  auto registration = std::make_unique<transport::Registration>();
  core::Device& device = engine_->device();
  ibv_mr* const mr = device.reg_mr(engine_->pd(), bytes.data(), bytes.size(), verbs_access(access));
  registration->region = checked(device, mr, "ibv_reg_mr", bytes.size());
  return {std::move(registration), bytes.data(), bytes.size()};
}

Region Memory::share(std::span<const std::byte> bytes, Access access) {
  if (allows(access, Access::local_write)) {
    throw Error(errc::invalid_argument,
                "read-only memory can't be shared for writing; share it with Access::remote_read");
  }
  return share(std::span(const_cast<std::byte*>(bytes.data()), bytes.size()), access);
}

Region Memory::share_dmabuf(int fd, std::uint64_t offset, std::size_t length, Access access) {
  engine_->require_this_process();
  auto registration = std::make_unique<transport::Registration>();
  core::Device& device = engine_->device();
  // What lies there has no address here; peers count from the beginning of the dma-buf.
  ibv_mr* const mr = device.reg_dmabuf_mr(engine_->pd(), offset, length, offset, fd, verbs_access(access));
  registration->region = checked(device, mr, "ibv_reg_dmabuf_mr", length);
  Region region{std::move(registration), reinterpret_cast<std::byte*>(offset), length};
  region.mapped_ = false;
  return region;
}

Pinned Memory::pin(std::span<std::byte> bytes, Access access) {
  engine_->require_this_process();
  if (!allows(Access::local_write, access))
    throw Error(errc::invalid_argument, "pinned memory is for this side alone; share() it with peers");
  Pinned pinned;
  errc error{};
  pinned.pin_ = std::make_unique<core::Pin>(engine_->registrations().pin(bytes, verbs_access(access), error));
  if (error != errc{}) {
    throw Error(error, fmt::format("{} bytes at {} can't be registered with device {}: {}", bytes.size(),
                                   fmt::ptr(bytes.data()), engine_->device().name(),
                                   make_error_code(error).message()));
  }
  pinned.slice_ = {bytes.data(), bytes.size(), pinned.pin_->lkey()};
  return pinned;
}

Pool& Memory::pool() noexcept {
  return engine_->pool().face();
}

}  // namespace verbena
