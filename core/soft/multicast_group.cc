// SPDX-License-Identifier: Apache-2.0
#include "core/soft/multicast_group.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "core/soft/layout.h"
#include "core/soft/network_header.h"

namespace verbena::core::soft {

bool is_multicast_gid(const ibv_gid& gid) noexcept {
  constexpr std::uint8_t first_of_ipv4 = 224;
  constexpr std::uint8_t last_of_ipv4 = 239;
  if (!is_ipv4_mapped(gid)) return gid.raw[0] == 0xff;
  return gid.raw[12] >= first_of_ipv4 && gid.raw[12] <= last_of_ipv4;
}

unsigned int name_group_place(sockaddr_un& name, const ibv_gid& group, std::uint32_t place) noexcept {
  name = {};
  name.sun_family = AF_UNIX;
  char digits[2 * sizeof group.raw + 1];
  for (std::size_t i = 0; i < sizeof group.raw; ++i) std::snprintf(digits + 2 * i, 3, "%02x", group.raw[i]);
  const int length =
      std::snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "verbena/soft0/%u/%u/group/%s/%02x",
                    layout_version, ::geteuid(), digits, place);
  return static_cast<unsigned int>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(length));
}

Descriptor join_group(const ibv_gid& group) noexcept {
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  constexpr int on = 1;
  if (!socket || ::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) return {};
  for (std::uint32_t place = 0; place < most_group_members; ++place) {
    sockaddr_un name;
    const socklen_t length = name_group_place(name, group, place);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), length) == 0) return socket;
    if (errno != EADDRINUSE) return {};
  }
  errno = ENOMEM;
  return {};
}

}  // namespace verbena::core::soft
