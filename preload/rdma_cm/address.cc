// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/address.h"

#include <arpa/inet.h>

#include <array>
#include <cstring>

#include "core/soft/gid_table.h"
#include "core/soft/limits.h"

namespace verbena::preload::rdma_cm {
namespace {

std::uint32_t ipv4_of(const sockaddr_in6& raw) noexcept {
  sockaddr_in ip;
  std::memcpy(&ip, &raw, sizeof ip);
  return ntohl(ip.sin_addr.s_addr);
}

void set_ipv4(sockaddr_in6& raw, std::uint32_t address) noexcept {
  sockaddr_in ip;
  std::memcpy(&ip, &raw, sizeof ip);
  ip.sin_addr.s_addr = htonl(address);
  std::memcpy(&raw, &ip, sizeof ip);
}

}  // namespace

bool Address::is_any() const noexcept {
  return family() == AF_INET ? ipv4_of(raw_) == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(&raw_.sin6_addr);
}

bool Address::is_loopback() const noexcept {
  return family() == AF_INET ? ipv4_of(raw_) >> 24 == IN_LOOPBACKNET
                             : IN6_IS_ADDR_LOOPBACK(&raw_.sin6_addr) != 0;
}

bool Address::is_multicast() const noexcept {
  return family() == AF_INET ? IN_MULTICAST(ipv4_of(raw_)) : IN6_IS_ADDR_MULTICAST(&raw_.sin6_addr);
}

bool Address::is_of_this_host() const {
  return is_loopback() || core::soft::is_gid_of_this_host(gid());
}

ibv_gid Address::gid() const noexcept {
  ibv_gid gid{};
  if (family() == AF_INET) {
    const std::uint32_t address = htonl(ipv4_of(raw_));
    gid.raw[10] = gid.raw[11] = 0xff;
    std::memcpy(gid.raw + 12, &address, sizeof address);
  } else {
    std::memcpy(gid.raw, &raw_.sin6_addr, sizeof gid.raw);
  }
  return gid;
}

// 127.0.0.2 is this host's, too, and stands in no table; nor does 127.0.0.1 where its interface is down.
ibv_gid Address::gid_on_device() const {
  const ibv_gid own = gid();
  if (core::soft::gid_index_of(own) >= 0) return own;
  const ibv_gid replaced = loopback().gid();
  return core::soft::gid_index_of(replaced) >= 0 ? replaced : core::soft::host_gid_once();
}

std::string Address::text() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  sockaddr_in ip;
  std::memcpy(&ip, &raw_, sizeof ip);
  const void* const bytes = family() == AF_INET ? static_cast<const void*>(&ip.sin_addr) : &raw_.sin6_addr;
  return ::inet_ntop(family(), bytes, text.data(), text.size()) ? text.data() : "";
}

Address Address::loopback() const noexcept {
  Address result(*this);
  if (family() == AF_INET) {
    set_ipv4(result.raw_, INADDR_LOOPBACK);
  } else {
    result.raw_.sin6_addr = in6addr_loopback;
  }
  return result;
}

Address Address::without_port() const noexcept {
  Address result(*this);
  result.set_port(0);
  return result;
}

}  // namespace verbena::preload::rdma_cm
