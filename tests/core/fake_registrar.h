// SPDX-License-Identifier: Apache-2.0
/// A device without a device: remembers what is registered, and which pages it saw then.
#pragma once

#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/cache/registrar.h"

namespace verbena::test {

/// A page's identity is its first word, written by whoever mapped it before it is ever registered: as a
/// device's DMA reaches the frames that it pinned, a transfer through a registration reaches the pages with
/// the identities read then, whatever is mapped there now. Expects nothing to be registered at its end.
class FakeRegistrar final : public core::Registrar {
 public:
  ~FakeRegistrar() override {
    EXPECT_EQ(live(), 0U) << "registrations were never taken back";
    EXPECT_EQ(mistakes_.load(), 0) << "registrations were taken back twice";
  }

  std::string_view name() const noexcept override { return "fake0"; }
  bool pins() const noexcept override { return false; }

  int add(core::AddressRange range, int access, core::Registration& registration) noexcept override {
    if (before_add) before_add(range);
    auto memory = std::make_unique<Memory>();
    memory->range = range;
    memory->access = access;
    if (const int error = read_identities(*memory)) return error;
    if (const int error = refuse ? refuse(range, access) : 0) return error;
    const std::lock_guard lock{mutex_};
    if (limit_bytes != 0 && bytes_ + range.size() > limit_bytes) return ENOMEM;
    bytes_ += range.size();
    ++added_;
    const std::uint32_t key = next_key_++;
    registration = {memory.get(), key, key ^ 0x8000'0000U};
    memories_.emplace(key, std::move(memory));
    return 0;
  }

  int remove(const core::Registration& registration) noexcept override {
    if (before_remove) before_remove();
    const std::lock_guard lock{mutex_};
    if (refuse_removals > 0) {
      --refuse_removals;
      return EBUSY;
    }
    const auto found = memories_.find(registration.lkey);
    if (found == memories_.end() || found->second.get() != registration.object) {
      ++mistakes_;
      return EINVAL;
    }
    bytes_ -= found->second->range.size();
    memories_.erase(found);
    return 0;
  }

  /// What a transfer from `address` by the key would meet: the identity of that page, 0 if it had none when
  /// it was registered. Empty if the key is unknown or doesn't reach there.
  std::optional<std::uint64_t> transfer(std::uint32_t lkey, const void* address) const {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    const std::lock_guard lock{mutex_};
    const auto found = memories_.find(lkey);
    if (found == memories_.end()) return std::nullopt;
    const Memory& memory = *found->second;
    if (!memory.range.covers({at, at + 1})) return std::nullopt;
    return memory.identities[(at - memory.range.begin) / core::page_size()];
  }

  std::size_t live() const {
    const std::lock_guard lock{mutex_};
    return memories_.size();
  }
  std::size_t live_bytes() const {
    const std::lock_guard lock{mutex_};
    return bytes_;
  }
  /// How many were ever registered.
  std::size_t added() const {
    const std::lock_guard lock{mutex_};
    return added_;
  }

  // Set before the cache is used by more than one thread:
  std::size_t limit_bytes = 0;  ///< beyond, ENOMEM; 0 for none
  std::function<int(core::AddressRange, int access)> refuse;
  std::function<void(core::AddressRange)> before_add;
  std::function<void()> before_remove;
  int refuse_removals = 0;  ///< so many from now on

 private:
  struct Memory {
    core::AddressRange range;
    int access = 0;
    std::vector<std::uint64_t> identities;
  };

  /// By the kernel, as a device's driver would: EFAULT where nothing is mapped.
  static int read_identities(Memory& memory) noexcept {
    const std::size_t count = memory.range.size() / core::page_size();
    memory.identities.resize(count);
    constexpr std::size_t most = 512;  // of IOV_MAX
    for (std::size_t first = 0; first < count; first += most) {
      std::vector<iovec> remote;
      for (std::size_t i = first; i < std::min(count, first + most); ++i) {
        remote.push_back({reinterpret_cast<void*>(memory.range.begin + i * core::page_size()), 8});
      }
      iovec local{&memory.identities[first], remote.size() * 8};
      const ssize_t size = process_vm_readv(getpid(), &local, 1, remote.data(), remote.size(), 0);
      if (size != static_cast<ssize_t>(local.iov_len)) return EFAULT;
    }
    return 0;
  }

  mutable std::mutex mutex_;
  std::map<std::uint32_t, std::unique_ptr<Memory>> memories_;
  std::size_t bytes_ = 0;
  std::size_t added_ = 0;
  std::uint32_t next_key_ = 1;
  std::atomic<int> mistakes_{0};
};

}  // namespace verbena::test
