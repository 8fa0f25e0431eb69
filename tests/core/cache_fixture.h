// SPDX-License-Identifier: Apache-2.0
/// Mappings that come and go, and caches over a registrar that counts.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>

#include "core/cache/registration_cache.h"
#include "core/fake_registrar.h"

namespace verbena::test {

// Rights, as verbs number them.
inline constexpr int local = 1;
inline constexpr int remote = 4;
inline const std::size_t page = core::page_size();

/// A mapping, until it is unmapped.
class Mapping {
 public:
  explicit Mapping(std::size_t pages, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1)
      : size_(pages * page), data_(mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, fd, 0)) {
    if (data_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  }
  ~Mapping() { unmap(); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* at(std::size_t which) const { return static_cast<std::byte*>(data_) + which * page; }
  std::size_t size() const { return size_; }
  void unmap() {
    if (std::exchange(mapped_, false)) munmap(data_, size_);
  }
  /// Maps anew at the same place.
  void map_again() {
    ASSERT_EQ(mmap(data_, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              data_);
    mapped_ = true;
  }

 private:
  std::size_t size_;
  void* data_;
  bool mapped_ = true;
};

inline core::AddressRange pages_of(const Mapping& memory, std::size_t first, std::size_t count) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.at(first));
  return {begin, begin + count * page};
}

class RegistrationCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!watcher().works()) GTEST_SKIP() << watcher().why_not();
  }
  static core::MemoryWatcher& watcher() { return core::process_watcher(); }
  /// Without joining of neighbours, unless asked for.
  core::RegistrationCache& make(core::RegistrationCache::Options options = {.joined = 0}) {
    return cache_.emplace(registrar_, watcher(), options);
  }
  FakeRegistrar& registrar() { return registrar_; }

 private:
  FakeRegistrar registrar_;
  std::optional<core::RegistrationCache> cache_;
};

}  // namespace verbena::test
