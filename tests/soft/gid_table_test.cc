// SPDX-License-Identifier: Apache-2.0
// soft0's GIDs follow the host's addresses.
#include "core/soft/gid_table.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <string>

#include "core/soft/limits.h"
#include "core/soft/network_header.h"

namespace verbena::core::soft {
namespace {

ibv_gid gid(const std::string& address) {
  ibv_gid gid{};
  if (::inet_pton(AF_INET6, address.c_str(), gid.raw) == 1) return gid;
  gid.raw[10] = gid.raw[11] = 0xff;
  EXPECT_EQ(::inet_pton(AF_INET, address.c_str(), gid.raw + 12), 1) << address;
  return gid;
}

std::string text(const ibv_gid& gid) {
  char text[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET6, gid.raw, text, sizeof text);
  return text;
}

TEST(GidTable, BeginsWithTheHostsOwnWhateverTheNetworkLooksLike) {
  ASSERT_TRUE(gid_at(0));
  EXPECT_EQ(text(gid_at(0)->gid), text(host_gid_once()));
  EXPECT_EQ(gid_index_of(host_gid_once()), 0);
}

TEST(GidTable, HasEveryAddressOfAnInterfaceThatIsUpOnce) {
  ifaddrs* list = nullptr;
  ASSERT_EQ(::getifaddrs(&list), 0);
  int found = 0;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
    if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET || !(entry->ifa_flags & IFF_UP)) continue;
    char address[INET_ADDRSTRLEN];
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr, address,
                sizeof address);
    const int index = gid_index_of(gid(address));
    EXPECT_GT(index, 0) << address;
    ASSERT_TRUE(gid_at(index));
    EXPECT_EQ(gid_at(index)->ndev_ifindex, ::if_nametoindex(entry->ifa_name)) << address;
    ++found;
  }
  ::freeifaddrs(list);
  std::set<std::string> seen;
  for (int index = 0; index < gid_table_length; ++index) {
    if (const auto entry = gid_at(index)) {
      EXPECT_TRUE(seen.insert(text(entry->gid)).second) << index;
    }
  }
  EXPECT_GE(static_cast<int>(seen.size()), found + 1);
  std::set<std::string> listed;
  for (const ibv_gid_entry& entry : gid_entries()) listed.insert(text(entry.gid));
  EXPECT_EQ(listed, seen);
}

TEST(GidTable, KnowsNeitherAddressesOfOthersNorPlacesBeyondItsEnd) {
  EXPECT_EQ(gid_index_of(gid("203.0.113.77")), -1);
  EXPECT_FALSE(is_gid_of_this_host(gid("2001:db8::77")));
  EXPECT_FALSE(gid_at(-1));
  EXPECT_FALSE(gid_at(gid_table_length));
}

// ---- In a network of its own, where addresses can come and go ----

constexpr int no_permission = 77;

void ask(unsigned long request, const char* interface, const char* address, short flags) {
  ifreq wanted{};
  std::strncpy(wanted.ifr_name, interface, sizeof wanted.ifr_name - 1);
  if (address) {
    auto& ip = reinterpret_cast<sockaddr_in&>(wanted.ifr_addr);
    ip.sin_family = AF_INET;
    ::inet_pton(AF_INET, address, &ip.sin_addr);
  } else {
    wanted.ifr_flags = flags;
  }
  const int socket = ::socket(AF_INET, SOCK_DGRAM, 0);
  EXPECT_EQ(::ioctl(socket, request, &wanted), 0) << interface << ": " << std::strerror(errno);
  ::close(socket);
}

void add(const char* interface, const char* address) {
  ask(SIOCSIFADDR, interface, address, 0);
}
void take_down(const char* interface) {
  ask(SIOCSIFFLAGS, interface, nullptr, 0);
}

void see_addresses_come_and_go() {
  ask(SIOCSIFFLAGS, "lo", nullptr, IFF_UP);
  add("lo:1", "10.1.2.3");
  add("lo:2", "172.16.2.4");
  const int first = gid_index_of(gid("10.1.2.3"));
  const int second = gid_index_of(gid("172.16.2.4"));
  EXPECT_GT(first, 0);
  EXPECT_GT(second, 0);
  take_down("lo:1");
  EXPECT_EQ(gid_index_of(gid("10.1.2.3")), -1);
  EXPECT_FALSE(gid_at(first)) << "an address that has gone leaves its place empty";
  EXPECT_EQ(gid_index_of(gid("172.16.2.4")), second) << "and the others where they are";
  add("lo:3", "192.168.2.5");
  EXPECT_TRUE(is_gid_of_this_host(gid("192.168.2.5"))) << "also where the table was read before it came";
  EXPECT_EQ(gid_index_of(gid("172.16.2.4")), second);
}

TEST(GidTable, FollowsAddressesThatComeAndGoAndTheOthersKeepTheirPlaces) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ::_exit(no_permission);
    see_addresses_come_and_go();
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == no_permission)
    GTEST_SKIP() << "this host lets users have no network of their own";
  EXPECT_EQ(status, 0);
}

// ---- The header that says which GIDs a datagram travelled between ----

ibv_grh bytes_of(const NetworkHeader& header) {
  ibv_grh grh;
  std::memcpy(&grh, header.data(), sizeof grh);
  return grh;
}

TEST(NetworkHeader, TellsBothAddressesOfEitherFamily) {
  for (const auto& [from, to] : {std::pair{"192.0.2.1", "192.0.2.2"}, std::pair{"fe80::1", "fd00::2"},
                                 std::pair{"127.0.0.1", "239.1.2.3"}, std::pair{"192.0.2.1", "fd00::2"}}) {
    const DatagramPath read = path_of(bytes_of(network_header({gid(from), gid(to)}, 100)));
    EXPECT_EQ(text(read.source), text(gid(from)));
    EXPECT_EQ(text(read.destination), text(gid(to)));
  }
}

TEST(NetworkHeader, BetweenIpv4AddressesIsAnIpv4HeaderWithARightChecksumInItsLastTwentyBytes) {
  const NetworkHeader header = network_header({gid("192.0.2.1"), gid("192.0.2.2")}, 100);
  const std::byte* const ip = header.data() + 20;
  EXPECT_EQ(ip[0], std::byte{0x45});
  EXPECT_EQ(internet_checksum(ip, 20), 0);
  EXPECT_EQ(std::to_integer<int>(ip[2]) * 256 + std::to_integer<int>(ip[3]), 20 + 8 + 12 + 8 + 100 + 4);
}

}  // namespace
}  // namespace verbena::core::soft
