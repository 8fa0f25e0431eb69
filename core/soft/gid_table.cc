// SPDX-License-Identifier: Apache-2.0
#include "core/soft/gid_table.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "core/per_process.h"
#include "core/soft/limits.h"

namespace verbena::core::soft {
namespace {

bool same(const ibv_gid& a, const ibv_gid& b) noexcept {
  return std::memcmp(a.raw, b.raw, sizeof a.raw) == 0;
}

struct Address {
  bool is_loopback;
  std::uint32_t interface;
  bool is_ipv6;
  ibv_gid gid;

  bool operator<(const Address& other) const noexcept {
    if (is_loopback != other.is_loopback) return other.is_loopback;
    if (interface != other.interface) return interface < other.interface;
    if (is_ipv6 != other.is_ipv6) return other.is_ipv6;
    return std::memcmp(gid.raw, other.gid.raw, sizeof gid.raw) < 0;
  }
};

std::optional<Address> read(const ifaddrs& entry) noexcept {
  if (!entry.ifa_addr || !(entry.ifa_flags & IFF_UP)) return {};
  Address address{};
  address.is_loopback = entry.ifa_flags & IFF_LOOPBACK;
  address.interface = ::if_nametoindex(entry.ifa_name);
  if (entry.ifa_addr->sa_family == AF_INET) {
    sockaddr_in ip;
    std::memcpy(&ip, entry.ifa_addr, sizeof ip);
    address.gid.raw[10] = address.gid.raw[11] = 0xff;
    std::memcpy(address.gid.raw + 12, &ip.sin_addr, sizeof ip.sin_addr);
    return address;
  }
  if (entry.ifa_addr->sa_family != AF_INET6) return {};
  sockaddr_in6 ip;
  std::memcpy(&ip, entry.ifa_addr, sizeof ip);
  address.is_ipv6 = true;
  std::memcpy(address.gid.raw, &ip.sin6_addr, sizeof ip.sin6_addr);
  return address;
}

/// Nothing where the system doesn't tell now.
std::optional<std::vector<Address>> addresses_of_host() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owned(list, &::freeifaddrs);
  std::vector<Address> all;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
    if (const auto address = read(*entry)) all.push_back(*address);
  }
  std::sort(all.begin(), all.end());
  return all;
}

class Table {
 public:
  Table() { put(0, host_gid_once(), 0); }

  void refresh() {
    const auto now = addresses_of_host();
    if (!now) return;  // what was known stays: an index is its address's
    for (auto place = places_.begin() + 1; place != places_.end(); ++place) {
      const auto is_it = [&](const Address& address) { return same(address.gid, (*place)->gid); };
      if (*place && std::none_of(now->begin(), now->end(), is_it)) place->reset();
    }
    for (const Address& address : *now) {
      if (find(address.gid) >= 0) continue;
      const auto free =
          std::find_if(places_.begin(), places_.end(), [](const auto& place) { return !place; });
      if (free == places_.end()) return;
      put(static_cast<std::uint32_t>(free - places_.begin()), address.gid, address.interface);
    }
  }

  int find(const ibv_gid& gid) const noexcept {
    const auto found = std::find_if(places_.begin(), places_.end(),
                                    [&](const auto& place) { return place && same(place->gid, gid); });
    return found == places_.end() ? -1 : static_cast<int>(found - places_.begin());
  }

  const std::optional<ibv_gid_entry>& at(int index) const noexcept {
    return places_[static_cast<std::size_t>(index)];
  }
  std::vector<ibv_gid_entry> entries() const {
    std::vector<ibv_gid_entry> all;
    for (const auto& place : places_) {
      if (place) all.push_back(*place);
    }
    return all;
  }

 private:
  void put(std::uint32_t index, const ibv_gid& gid, std::uint32_t interface) noexcept {
    ibv_gid_entry entry{};
    entry.gid = gid;
    entry.gid_index = index;
    entry.port_num = 1;
    entry.gid_type = IBV_GID_TYPE_ROCE_V2;
    entry.ndev_ifindex = interface;
    places_[index] = entry;
  }

  std::array<std::optional<ibv_gid_entry>, gid_table_length> places_;
};

PerProcess<Table> table;

/// Of a table that the host has just been asked for.
template <class Act>
auto with_fresh_table(Act act) {
  return table.with([&](Table& known) {
    known.refresh();
    return act(known);
  });
}

}  // namespace

std::optional<ibv_gid_entry> gid_at(int index) {
  if (index < 0 || index >= gid_table_length) return {};
  return with_fresh_table([&](const Table& known) { return known.at(index); });
}

std::vector<ibv_gid_entry> gid_entries() {
  return with_fresh_table([](const Table& known) { return known.entries(); });
}

int gid_index_of(const ibv_gid& gid) {
  return with_fresh_table([&](const Table& known) { return known.find(gid); });
}

bool is_gid_of_this_host(const ibv_gid& gid) {
  return table.with([&](const Table& known) { return known.find(gid) >= 0; }) || gid_index_of(gid) >= 0;
}

}  // namespace verbena::core::soft
