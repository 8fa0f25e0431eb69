// SPDX-License-Identifier: Apache-2.0
#include "transport/stranger.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "transport/loops.h"
#include "verbena/address.h"

#include <arpa/inet.h>

namespace verbena::test {
namespace {

sockaddr_in here(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, Address::parse(address_of(port)).host.c_str(), &address.sin_addr);
  return address;
}

int must(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

}  // namespace

Stranger::Stranger(std::uint16_t port)
    : socket_(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
  const sockaddr_in address = here(port);
  must(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
}

Stranger::~Stranger() {
  if (socket_ >= 0) ::close(socket_);
}

Stranger::Stranger(Stranger&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), ended_(other.ended_), heard_(std::move(other.heard_)) {}

void Stranger::say(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (done < 0) return;  // hung up on: that is the other side's right
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void Stranger::say(const transport::Hello& hello) {
  std::array<std::byte, transport::hello_size> bytes;
  transport::encode(hello, bytes);
  say(bytes);
}

std::span<const std::byte> Stranger::heard() {
  std::array<std::byte, 512> part;
  while (!ended_) {
    const ssize_t count = ::recv(socket_, part.data(), part.size(), MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {
      ended_ = true;
    } else {
      heard_.insert(heard_.end(), part.begin(), part.begin() + count);
    }
  }
  return heard_;
}

bool Stranger::was_hung_up_on() {
  heard();
  return ended_;
}

StrangeServer::StrangeServer() : socket_(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
  sockaddr_in address = here(0);
  must(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  must(::listen(socket_, 8), "listen");
  socklen_t size = sizeof address;
  must(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  port_ = ntohs(address.sin_port);
}

StrangeServer::~StrangeServer() {
  ::close(socket_);
}

bool StrangeServer::is_called() {
  pollfd descriptor{socket_, POLLIN, 0};
  return ::poll(&descriptor, 1, 0) == 1;
}

Stranger StrangeServer::answer() {
  return Stranger(must(::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC), "accept"), true);
}

}  // namespace verbena::test
