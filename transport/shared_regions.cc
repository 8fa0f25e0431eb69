// SPDX-License-Identifier: Apache-2.0
#include "transport/shared_regions.h"

#include <algorithm>
#include <utility>

namespace verbena::transport {
namespace {

const std::byte* begin_of(const Registration* registration) {
  return registration->memory.data();
}

bool holds(const Registration& registration, std::span<const std::byte> bytes) {
  const std::span<const std::byte> memory = registration.memory.bytes();
  return bytes.data() >= memory.data() && bytes.size() <= memory.size() &&
         static_cast<std::size_t>(bytes.data() - memory.data()) <= memory.size() - bytes.size();
}

}  // namespace

Registration::~Registration() {
  if (known_to) known_to->remove(*this);
}

void SharedRegions::add(Registration& registration) {
  by_address_.insert(std::ranges::upper_bound(by_address_, registration.memory.data(), {}, &begin_of),
                     &registration);
  registration.known_to = this;
}

void SharedRegions::remove(Registration& registration) noexcept {
  std::erase(by_address_, &registration);
  if (last_ == &registration) last_ = nullptr;
}

std::uint32_t SharedRegions::key_of(std::span<const std::byte> bytes) noexcept {
  core::Lending* const lending = device_.lending();
  if (!lending) return 0;
  if (!last_ || !holds(*last_, bytes)) {
    const auto behind = std::ranges::upper_bound(by_address_, bytes.data(), {}, &begin_of);
    if (behind == by_address_.begin() || !holds(**std::prev(behind), bytes)) return 0;
    last_ = *std::prev(behind);
  }
  if (!last_->lent) {
    last_->lent = {device_, device_.reg_shared_mr(pd_, last_->memory.range(), IBV_ACCESS_REMOTE_READ)};
    if (!last_->lent) return 0;
  }
  return lending->can_lend(*last_->lent.get()) ? last_->lent->rkey : 0;
}

}  // namespace verbena::transport
