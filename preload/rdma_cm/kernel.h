// SPDX-License-Identifier: Apache-2.0
/// The kernel's own /dev/infiniband/rdma_cm, where the machine has one: ids for real devices are its.
///
/// Which id is whose, by the address that it gets:
/// - a loopback address: soft0's;
/// - an address that the kernel takes for a real device's (it binds, and names a device): the kernel's;
/// - another address of this host: soft0's;
/// - an address that isn't this host's: the kernel's, which may know the way;
/// - the unspecified address: both; a listener hears of the connections of both.
#pragma once

#include <rdma/rdma_user_cm.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "core/soft/shared_file.h"
#include "preload/rdma_cm/address.h"
#include "preload/rdma_cm/event.h"

namespace verbena::preload::rdma_cm {

class Kernel {
 public:
  /// Empty where there is none, or this process may not open it.
  static std::optional<Kernel> open() noexcept;

  int descriptor() const noexcept { return file_.get(); }
  /// 0 or errno.
  int command(std::uint32_t number, std::span<const std::byte> body, std::size_t answer_size) const noexcept;
  template <class T>
  int send(std::uint32_t number, const T& body, std::size_t answer_size = 0) const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    return command(number, std::as_bytes(std::span(&body, 1)), answer_size);
  }

  /// A new id; nothing with errno.
  std::optional<Handle> create(std::uint64_t uid, std::uint16_t port_space,
                               std::uint8_t qp_type) const noexcept;
  void destroy(Handle id) const noexcept;
  int bind(Handle id, const Address& address) const noexcept;
  /// Whether it is bound to a device.
  bool has_device(Handle id) const noexcept;
  /// False where none waits.
  bool next_event(rdma_ucm_event_resp& event) const noexcept;

 private:
  explicit Kernel(core::soft::Descriptor file) noexcept : file_(std::move(file)) {}

  core::soft::Descriptor file_;
};

}  // namespace verbena::preload::rdma_cm
