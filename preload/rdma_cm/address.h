// SPDX-License-Identifier: Apache-2.0
/// An address with a port, IPv4 or IPv6, as rdma_cm's interface carries it: both in the space of a
/// sockaddr_in6.
#pragma once

#include <infiniband/verbs.h>
#include <netinet/in.h>

#include <cstdint>
#include <string>

namespace verbena::preload::rdma_cm {

class Address {
 public:
  Address() = default;
  explicit Address(const sockaddr_in6& raw) noexcept : raw_(raw) {}

  const sockaddr_in6& raw() const noexcept { return raw_; }
  sa_family_t family() const noexcept { return raw_.sin6_family; }
  bool is_internet() const noexcept { return family() == AF_INET || family() == AF_INET6; }
  std::uint16_t port() const noexcept { return ntohs(raw_.sin6_port); }  // at the same place in both
  void set_port(std::uint16_t port) noexcept { raw_.sin6_port = htons(port); }

  bool is_any() const noexcept;
  bool is_loopback() const noexcept;
  bool is_multicast() const noexcept;
  /// Whether it belongs to this host: to an interface that is up, or to the loopback range.
  bool is_of_this_host() const;

  /// The GID that stands for it; of an IPv4 address the IPv4-mapped one.
  ibv_gid gid() const noexcept;
  /// Of soft0's table, for this address or for the loopback address that stands for it; 0 where the table has
  /// none.
  ibv_gid gid_on_device() const;

  /// "127.0.0.1", "fd00::2"; without the port.
  std::string text() const;
  /// The loopback address of the same family and port.
  Address loopback() const noexcept;
  /// The same address with port 0.
  Address without_port() const noexcept;

 private:
  sockaddr_in6 raw_{};
};

}  // namespace verbena::preload::rdma_cm
