// SPDX-License-Identifier: Apache-2.0
#include "core/soft/control.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace verbena::core::soft {
namespace {

// Abstract names: nothing in the file system, and gone with the process, however it dies.
socklen_t name_block(sockaddr_un& address, std::uint32_t block) {
  address = {};
  address.sun_family = AF_UNIX;
  const int length = std::snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
                                   "verbena/soft0/%u/%03x", layout_version, block);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(length));
}

Descriptor open_socket() {
  return Descriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

}  // namespace

int send_control(int socket, const ControlMessage& message, std::span<const int> descriptors) noexcept {
  iovec bytes{const_cast<ControlMessage*>(&message), sizeof message};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * max_descriptors)] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = space;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(control), descriptors.data(), descriptors.size_bytes());
  }
  return ::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

int receive_control(int socket, ControlParcel& parcel) noexcept {
  iovec bytes{&parcel.message, sizeof parcel.message};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * max_descriptors)];
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = space;
  header.msg_controllen = sizeof space;
  const ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got <= 0) return static_cast<int>(got);
  std::size_t count = 0;
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control; control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t descriptors = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < descriptors && count < max_descriptors; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof fd);
      parcel.descriptors[count++] = Descriptor(fd);
    }
  }
  // MSG_CTRUNC is no fault of the peer's: its descriptors didn't fit into our limit. What they were for isn't
  // to be had, and nothing else is lost.
  if (got != sizeof parcel.message || parcel.message.magic != layout_magic ||
      parcel.message.version != layout_version || (header.msg_flags & MSG_TRUNC)) {
    errno = EPROTO;
    return -1;
  }
  return 1;
}

Descriptor listen_as_block(std::uint32_t block) noexcept {
  Descriptor socket = open_socket();
  if (!socket) return {};
  sockaddr_un address;
  const socklen_t length = name_block(address, block);
  constexpr int backlog = 4096;  // a server may be met by thousands of clients at once
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) return {};
  if (::listen(socket.get(), backlog) != 0) return {};
  return socket;
}

Descriptor connect_to_block(std::uint32_t block) noexcept {
  Descriptor socket = open_socket();
  if (!socket) return {};
  sockaddr_un address;
  const socklen_t length = name_block(address, block);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) return {};
  return socket;
}

}  // namespace verbena::core::soft
