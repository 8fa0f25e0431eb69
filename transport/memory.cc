// SPDX-License-Identifier: Apache-2.0
#include "verbena/memory.h"

#include <algorithm>
#include <cerrno>

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

}  // namespace

Region::Region() noexcept = default;
Region::Region(Region&&) noexcept = default;
Region& Region::operator=(Region&&) noexcept = default;
Region::~Region() = default;

Slice Region::slice(std::size_t offset, std::size_t length) const noexcept {
  offset = std::min(offset, bytes_.size());
  return {bytes_.data() + offset, std::min(length, bytes_.size() - offset), local_key_};
}

Region Memory::allocate(std::size_t length, Access access) {
  Region region;
  region.registration_ = std::make_unique<transport::Registration>();
  region.registration_->memory = core::SharedMemory(length);
  core::Device& device = engine_->device();
  ibv_mr* mr =
      device.reg_shared_mr(engine_->pd(), region.registration_->memory.range(), verbs_access(access));
  if (!mr) core::throw_verb_error(device.name(), "ibv_reg_mr", errno, std::to_string(length) + " bytes");
  region.registration_->region = {device, mr};
  engine_->shared_regions().add(*region.registration_);
  region.bytes_ = region.registration_->memory.bytes().first(length);
  region.local_key_ = mr->lkey;
  region.remote_key_ = mr->rkey;
  return region;
}

Region Memory::share(std::span<std::byte> bytes, Access access) {
  Region region;
  region.registration_ = std::make_unique<transport::Registration>();
  core::Device& device = engine_->device();
  ibv_mr* mr = device.reg_mr(engine_->pd(), bytes.data(), bytes.size(), verbs_access(access));
  if (!mr)
    core::throw_verb_error(device.name(), "ibv_reg_mr", errno, std::to_string(bytes.size()) + " bytes");
  region.registration_->region = {device, mr};
  region.bytes_ = bytes;
  region.local_key_ = mr->lkey;
  region.remote_key_ = mr->rkey;
  return region;
}

Pool& Memory::pool() noexcept {
  return engine_->pool().face();
}

Region Memory::share(std::span<const std::byte> bytes, Access access) {
  if (allows(access, Access::local_write)) {
    throw Error(errc::invalid_argument,
                "read-only memory can't be shared for writing; share it with Access::remote_read");
  }
  return share(std::span(const_cast<std::byte*>(bytes.data()), bytes.size()), access);
}

}  // namespace verbena
