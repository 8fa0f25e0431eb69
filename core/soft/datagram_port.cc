// SPDX-License-Identifier: Apache-2.0
#include "core/soft/datagram_port.h"

#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "core/soft/layout.h"
#include "core/soft/multicast_group.h"

namespace verbena::core::soft {
namespace {

constexpr std::size_t digits = 6;  // of a queue pair number

/// Of one call: a stranger who sends all the time must not hold up a poll, nor a reset.
constexpr int most_foreign = 16;
constexpr int most_drained = 4096;  // more than a socket's queue has places

/// An abstract name: nothing in the file system, and gone with the process, however it dies.
socklen_t name_port(sockaddr_un& address, std::uint32_t number) noexcept {
  address = {};
  address.sun_family = AF_UNIX;
  const int length = std::snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
                                   "verbena/soft0/%u/ud/%06x", layout_version, number);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(length));
}

/// The number in a port's name; false where the name is another one.
bool read_name(const sockaddr_un& address, socklen_t length, std::uint32_t& number) noexcept {
  sockaddr_un wanted;
  const socklen_t wanted_length = name_port(wanted, 0);
  const std::size_t prefix = wanted_length - digits;
  if (length != wanted_length || std::memcmp(&address, &wanted, prefix) != 0) return false;
  const char* const text = reinterpret_cast<const char*>(&address) + prefix;
  const auto [end, error] = std::from_chars(text, text + digits, number, 16);
  return error == std::errc{} && end == text + digits;
}

}  // namespace

DatagramPort::DatagramPort(std::uint32_t number)
    : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  if (!socket_) return;
  sockaddr_un name;
  const socklen_t length = name_port(name, number);
  constexpr int on = 1;
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0) {
    const int error = errno;
    socket_ = Descriptor();
    errno = error;
  }
}

bool DatagramPort::send(std::uint32_t to, const DatagramHeader& header,
                        std::span<const ibv_sge> pieces) noexcept {
  std::array<iovec, max_gather + 1> parts{{{const_cast<DatagramHeader*>(&header), sizeof header}}};
  std::transform(pieces.begin(), pieces.end(), parts.begin() + 1, [](const ibv_sge& piece) {
    return iovec{reinterpret_cast<void*>(piece.addr), piece.length};
  });
  sockaddr_un name;
  msghdr message{};
  message.msg_namelen = name_port(name, to);
  message.msg_name = &name;
  message.msg_iov = parts.data();
  message.msg_iovlen = pieces.size() + 1;
  if (::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    return errno != EAGAIN && errno != ENOBUFS && errno != EINTR;
  std::replace(given_up_.begin(), given_up_.end(), to, std::uint32_t{0});
  return true;
}

void DatagramPort::give_up(std::uint32_t to) noexcept {
  if (!has_given_up(to)) given_up_[next_given_up_++ % given_up_.size()] = to;
}

bool DatagramPort::has_given_up(std::uint32_t to) const noexcept {
  return std::ranges::find(given_up_, to) != given_up_.end();
}

DatagramPort::Taken DatagramPort::take(int socket, Datagram& datagram) noexcept {
  sockaddr_un from;
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(ucred))];
  iovec parts[] = {{&datagram.header, sizeof datagram.header}, {bytes_.data(), bytes_.size()}};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  message.msg_iov = parts;
  message.msg_iovlen = std::size(parts);
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT);
  if (got < 0) return Taken::nothing;
  ucred sender{};
  sender.uid = static_cast<uid_t>(-1);
  const cmsghdr* const control = CMSG_FIRSTHDR(&message);
  if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_CREDENTIALS)
    std::memcpy(&sender, CMSG_DATA(control), sizeof sender);
  // Anybody may send to an abstract name: other users, and programs that know nothing of this.
  // The kernel adds the real user id, whatever the effective one.
  if (sender.uid != ::getuid() || got < static_cast<ssize_t>(sizeof datagram.header) ||
      (message.msg_flags & MSG_TRUNC) || !read_name(from, message.msg_namelen, datagram.source)) {
    return Taken::foreign;
  }
  datagram.payload = {bytes_.data(), static_cast<std::size_t>(got) - sizeof datagram.header};
  return Taken::ours;
}

DatagramPort::Taken DatagramPort::take_from_any(Datagram& datagram) noexcept {
  Taken taken = take(socket_.get(), datagram);
  for (auto group = groups_.begin(); taken == Taken::nothing && group != groups_.end(); ++group)
    taken = take(group->socket.get(), datagram);
  return taken;
}

void DatagramPort::send_to_group(const DatagramHeader& header, std::span<const ibv_sge> pieces) noexcept {
  std::array<iovec, max_gather + 1> parts{{{const_cast<DatagramHeader*>(&header), sizeof header}}};
  std::transform(pieces.begin(), pieces.end(), parts.begin() + 1, [](const ibv_sge& piece) {
    return iovec{reinterpret_cast<void*>(piece.addr), piece.length};
  });
  for (std::uint32_t place = 0; place < most_group_members; ++place) {
    sockaddr_un name;
    msghdr message{};
    message.msg_namelen = name_group_place(name, header.path.destination, place);
    message.msg_name = &name;
    message.msg_iov = parts.data();
    message.msg_iovlen = pieces.size() + 1;
    ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);  // nobody there, or no room: lost
  }
}

int DatagramPort::join(const ibv_gid& group) {
  for (const Group& known : groups_) {
    if (std::memcmp(known.gid.raw, group.raw, sizeof group.raw) == 0) return 0;
  }
  Descriptor socket = join_group(group);
  if (!socket) return errno;
  groups_.push_back({group, std::move(socket)});
  return 0;
}

int DatagramPort::leave(const ibv_gid& group) noexcept {
  const auto is_it = [&](const Group& known) {
    return std::memcmp(known.gid.raw, group.raw, sizeof group.raw) == 0;
  };
  return std::erase_if(groups_, is_it) != 0 ? 0 : EINVAL;
}

bool DatagramPort::receive(Datagram& datagram) noexcept {
  for (int i = 0; i < most_foreign; ++i) {
    const Taken taken = take_from_any(datagram);
    if (taken != Taken::foreign) return taken == Taken::ours;
  }
  return false;
}

// What comes meanwhile needn't go: it would have come after it, too.
void DatagramPort::drain() noexcept {
  Datagram datagram;
  for (int i = 0; i < most_drained && take_from_any(datagram) != Taken::nothing; ++i) {
  }
}

}  // namespace verbena::core::soft
