// SPDX-License-Identifier: Apache-2.0
#include "transport/shared_regions.h"

#include <algorithm>
#include <new>

namespace verbena::transport {
namespace {

const std::byte* begin_of(const Registration* registration) {
  return registration->memory.data();
}

}  // namespace

Registration::~Registration() {
  if (known_to) known_to->remove(*this);
  if (!reads) return;
  reads->region.reset();
  reads->is_orphaned = true;
  if (reads->holders == 0) delete reads;
}

bool Registration::holds(std::span<const std::byte> bytes) const noexcept {
  const std::span<const std::byte> all = memory.bytes();
  // As numbers: what isn't of one object can't be compared as pointers.
  const auto offset =
      reinterpret_cast<std::uintptr_t>(bytes.data()) - reinterpret_cast<std::uintptr_t>(all.data());
  return !all.empty() && bytes.size() <= all.size() && offset <= all.size() - bytes.size();
}

void SharedRegions::add(Registration& registration, Reason reason) {
  if (reason == Reason::can_be_mapped && !device_.lending()) return;  // other devices make no difference
  by_address_.insert(std::ranges::upper_bound(by_address_, registration.memory.data(), {}, &begin_of),
                     &registration);
  registration.known_to = this;
}

void SharedRegions::remove(Registration& registration) noexcept {
  std::erase(by_address_, &registration);
  if (last_ == &registration) last_ = nullptr;
}

Registration* SharedRegions::find(std::span<const std::byte> bytes) noexcept {
  if (last_ && last_->holds(bytes)) return last_;
  const auto behind = std::ranges::upper_bound(by_address_, bytes.data(), {}, &begin_of);
  if (behind == by_address_.begin() || !(*std::prev(behind))->holds(bytes)) return nullptr;
  return last_ = *std::prev(behind);
}

ReadRight* SharedRegions::right_to_read(std::span<const std::byte> bytes) noexcept {
  Registration* const found = find(bytes);
  if (!found) return nullptr;
  if (!found->reads) found->reads = new (std::nothrow) ReadRight;
  if (!found->reads) return nullptr;
  core::Handle<ibv_mr>& region = found->reads->region;
  if (!region) {
    ibv_mr* const mr = device_.reg_shared_mr(pd_, found->memory.range(), IBV_ACCESS_REMOTE_READ);
    if (!mr) return nullptr;
    region = {device_, mr};
  }
  return found->reads;
}

}  // namespace verbena::transport
