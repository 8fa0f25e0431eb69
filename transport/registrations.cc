// SPDX-License-Identifier: Apache-2.0
#include "transport/registrations.h"

#include <exception>
#include <system_error>

namespace verbena::transport {
namespace {

errc meaning_of(std::error_code failure) noexcept {
  return failure ? static_cast<errc>(failure.default_error_condition().value()) : errc{};
}

}  // namespace

bool Registrations::make_cache() noexcept {
  try {
    core::RegistrationCache::Options options;
    options.bytes = kept_bytes_;
    cache_ = std::make_unique<core::RegistrationCache>(registrar_, core::process_watcher(), options);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

core::Pin Registrations::pin(std::span<const std::byte> bytes, int access, errc& error) noexcept {
  if (!cache_ && !make_cache()) {
    error = errc::no_buffer;
    return {};
  }
  std::error_code failure;
  core::Pin pin = cache_->acquire(bytes.data(), bytes.size(), access, failure);
  error = meaning_of(failure);
  return pin;
}

core::Pin Registrations::pin_early(std::span<const std::byte> bytes, int access, errc& error) noexcept {
  if (!cache_ && !make_cache()) {
    error = errc::no_buffer;
    return {};
  }
  std::error_code failure;
  core::Pin pin = cache_->acquire_early(bytes.data(), bytes.size(), access, failure);
  error = meaning_of(failure);
  return pin;
}

Exposure Registrations::expose(std::span<const std::byte> bytes, errc& error) noexcept {
  error = {};
  if (pins_ && pool_.contains(bytes))
    return Exposure{pool_.rkey()};  // to pin it twice would break the budget
  if (Exposure region = expose_region(bytes)) return region;
  return Exposure{pin(bytes, IBV_ACCESS_REMOTE_READ, error)};
}

Exposure Registrations::expose_region(std::span<const std::byte> bytes) noexcept {
  ReadRight* const right = regions_.right_to_read(bytes);
  return right ? Exposure{*right} : Exposure{};
}

core::RegistrationCache::Counters Registrations::counters() const noexcept {
  return cache_ ? cache_->counters() : core::RegistrationCache::Counters{};
}

}  // namespace verbena::transport
