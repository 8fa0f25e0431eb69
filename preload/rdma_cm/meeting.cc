// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/meeting.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "preload/rdma_cm/message.h"

namespace verbena::preload::rdma_cm {
namespace {

using core::soft::Descriptor;

// In place of an address: of one family, of both.
constexpr const char* any_ipv4 = "*4";
constexpr const char* any_ipv6 = "*6";
constexpr const char* any_address = "*";

/// All names of a port begin so.
std::string port_prefix(PortSpace space, std::uint16_t port) {
  char text[64];
  std::snprintf(text, sizeof text, "verbena/rdma_cm/%u/%u/%03x/%u/", Message::right_version, ::geteuid(),
                space.number, port);
  return text;
}

std::string own_name(PortSpace space, const Address& address) {
  if (!address.is_any()) return address.text();
  if (address.family() == AF_INET) return any_ipv4;
  return space.one_family ? any_ipv6 : any_address;
}

socklen_t fill(sockaddr_un& to, const std::string& name) noexcept {
  to = {};
  to.sun_family = AF_UNIX;
  const std::size_t length = std::min(name.size(), sizeof to.sun_path - 1);
  std::memcpy(to.sun_path + 1, name.data(), length);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

bool is_ipv4(const std::string& name) {
  return name == any_ipv4 || name.find('.') != std::string::npos;
}

/// Two different names of one port, of which one stands for what the other names.
bool overlap(const std::string& a, const std::string& b) {
  if (a == any_address || b == any_address) return true;
  return (a[0] == '*' || b[0] == '*') && is_ipv4(a) == is_ipv4(b);
}

/// The names behind `prefix` that are taken now, in this network namespace.
std::vector<std::string> taken_names(const std::string& prefix) {
  std::vector<std::string> names;
  std::ifstream list("/proc/self/net/unix");
  const std::string wanted = " @" + prefix;
  for (std::string line; std::getline(list, line);) {
    const std::size_t at = line.find(wanted);
    if (at != std::string::npos) names.push_back(line.substr(at + wanted.size()));
  }
  return names;
}

Descriptor open_socket() {
  return Descriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

Descriptor refused(int error) {
  errno = error;
  return {};
}

/// The exact name is the system's to refuse. Whoever comes second sees a name that overlaps; two that come at
/// once may both see each other, and both are refused.
Descriptor take(PortSpace space, const Address& address) {
  Descriptor socket = open_socket();
  if (!socket) return {};
  const std::string prefix = port_prefix(space, address.port());
  const std::string own = own_name(space, address);
  sockaddr_un name;
  const socklen_t length = fill(name, prefix + own);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0)
    return refused(errno == EADDRINUSE && address.is_any() ? EADDRNOTAVAIL : errno);
  const std::vector<std::string> taken = taken_names(prefix);
  if (std::any_of(taken.begin(), taken.end(),
                  [&](const std::string& other) { return other != own && overlap(other, own); }))
    return refused(EADDRNOTAVAIL);
  return socket;
}

struct PortRange {
  std::uint32_t first = 32768;  // the kernel's default
  std::uint32_t last = 60999;
};

PortRange free_ports() {
  PortRange range;
  std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
  PortRange told;
  if (file >> told.first >> told.last && told.first >= 1 && told.first <= told.last && told.last <= 65535)
    range = told;
  return range;
}

bool is_of_this_user(int socket) noexcept {
  ucred peer{};
  socklen_t length = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == ::geteuid();
}

}  // namespace

Descriptor take_port(PortSpace space, Address& address) {
  if (address.port() != 0) return take(space, address);
  const PortRange range = free_ports();
  const std::uint32_t count = range.last - range.first + 1;
  const std::uint32_t start = std::random_device{}() % count;
  for (std::uint32_t i = 0; i < count; ++i) {
    Address tried = address;
    tried.set_port(static_cast<std::uint16_t>(range.first + (start + i) % count));
    Descriptor socket = take(space, tried);
    if (!socket && (errno == EADDRINUSE || errno == EADDRNOTAVAIL)) continue;
    if (socket) address = tried;
    return socket;
  }
  return refused(EADDRNOTAVAIL);
}

int start_listening(int socket, int backlog) noexcept {
  return ::listen(socket, backlog) == 0 ? 0 : errno;
}

int meet(int socket, PortSpace space, const Address& address) noexcept {
  const std::string prefix = port_prefix(space, address.port());
  for (const std::string& name :
       {address.text(), std::string(address.family() == AF_INET ? any_ipv4 : any_ipv6),
        std::string(any_address)}) {
    sockaddr_un to;
    const socklen_t length = fill(to, prefix + name);
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&to), length) == 0)
      return is_of_this_user(socket) ? 0 : ECONNREFUSED;
    if (errno != ECONNREFUSED) return errno;
  }
  return ECONNREFUSED;
}

// Under the manager's lock. A process without a free descriptor refuses who comes, by one that is kept for
// that: else the listener would stay readable, and whoever waits for events would spin.
Descriptor accept_next(int listener) noexcept {
  static Descriptor spare(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  constexpr int most_foreign = 16;  // of one call: strangers don't hold it up
  for (int i = 0; i < most_foreign; ++i) {
    Descriptor socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket && (errno == EMFILE || errno == ENFILE) && spare) {
      spare = {};
      const bool was_there =
          static_cast<bool>(Descriptor(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)));
      spare = Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!was_there) return {};
      continue;
    }
    if (!socket || is_of_this_user(socket.get())) return socket;
  }
  return {};
}

}  // namespace verbena::preload::rdma_cm
