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

Registration* SharedRegions::find(std::span<const std::byte> bytes) noexcept {
  if (!device_.lending()) return nullptr;  // other devices make no difference
  if (last_ && holds(*last_, bytes)) return last_;
  const auto behind = std::ranges::upper_bound(by_address_, bytes.data(), {}, &begin_of);
  if (behind == by_address_.begin() || !holds(**std::prev(behind), bytes)) return nullptr;
  return last_ = *std::prev(behind);
}

std::uint32_t SharedRegions::key_of(std::span<const std::byte> bytes) noexcept {
  Registration* const found = find(bytes);
  if (!found) return 0;
  if (!found->lent) {
    found->lent = {device_, device_.reg_shared_mr(pd_, found->memory.range(), IBV_ACCESS_REMOTE_READ)};
    if (!found->lent) return 0;
  }
  return device_.lending()->can_lend(*found->lent.get()) ? found->lent->rkey : 0;
}

std::optional<core::SharedRange> SharedRegions::range_of(std::span<const std::byte> bytes) noexcept {
  const Registration* const found = find(bytes);
  if (!found) return std::nullopt;
  constexpr std::size_t page = 4096;
  core::SharedRange range = found->memory.range();
  auto* const memory = static_cast<std::byte*>(range.address);
  const auto begin = static_cast<std::size_t>(bytes.data() - memory) / page * page;
  const auto end = static_cast<std::size_t>(bytes.data() - memory) + bytes.size();
  range.offset += begin;
  range.address = memory + begin;
  range.length = std::min((end + page - 1) / page * page, range.length) - begin;
  return range;
}

}  // namespace verbena::transport
