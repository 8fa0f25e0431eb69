// SPDX-License-Identifier: Apache-2.0
#include "tools/top/live_loop.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <poll.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

constexpr std::chrono::milliseconds patience{2000};
constexpr std::size_t longest_answer = std::size_t{64} << 20;

using Clock = std::chrono::steady_clock;
using Outcome = LoopAnswer::Outcome;

class Socket {
 public:
  Socket() : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/// Bounds connect(), which waits where the loop's queue of visitors is full.
void set_patience(int socket) {
  const timeval limit{std::chrono::duration_cast<std::chrono::seconds>(patience).count(), 0};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool connect_to(int socket, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() + 1 > sizeof address.sun_path) return false;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0;
}

/// All that comes until the end; nothing where that doesn't come in time.
std::optional<std::string> read_all(int socket) {
  const auto end = Clock::now() + patience;
  std::string text;
  std::array<char, 65536> buffer{};
  while (text.size() < longest_answer) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    pollfd wait{socket, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0) return std::nullopt;
    const ssize_t count = ::read(socket, buffer.data(), buffer.size());
    if (count < 0) return std::string{};
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return std::nullopt;
}

/// "@verbena/loop/PID/NUMBER", as /proc/net/unix has it.
std::optional<LiveLoop> parse_name(std::string_view name) {
  constexpr std::string_view prefix = "@verbena/loop/";
  if (!name.starts_with(prefix)) return std::nullopt;
  LiveLoop loop;
  loop.socket = name.substr(1);
  const char* const begin = name.data() + prefix.size();
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(begin, end, loop.process);
  if (error != std::errc{} || rest == end || *rest != '/' || loop.process <= 0) return std::nullopt;
  return loop;
}

}  // namespace

std::vector<LiveLoop> find_live_loops() {
  std::ifstream sockets("/proc/net/unix");
  if (!sockets) throw Failure("/proc/net/unix can't be read; mount /proc to find Verbena's processes.");
  std::vector<LiveLoop> loops;
  for (std::string line; std::getline(sockets, line);) {
    std::istringstream fields(line);
    std::string address, references, protocol, flags, type, state, inode, name;
    fields >> address >> references >> protocol >> flags >> type >> state >> inode >> name;
    constexpr std::string_view listening = "00010000";
    if (flags != listening) continue;
    if (auto loop = parse_name(name)) loops.push_back(std::move(*loop));
  }
  std::ranges::sort(loops, [](const LiveLoop& a, const LiveLoop& b) {
    if (a.process != b.process) return a.process < b.process;
    return a.socket.size() != b.socket.size() ? a.socket.size() < b.socket.size() : a.socket < b.socket;
  });
  return loops;
}

LoopAnswer ask(const LiveLoop& loop) {
  LoopAnswer answer;
  const Socket socket;
  if (socket.get() < 0) throw Failure(std::string("no socket can be had: ") + std::strerror(errno));
  set_patience(socket.get());
  if (!connect_to(socket.get(), loop.socket)) {
    answer.outcome = errno == EAGAIN ? Outcome::silent : Outcome::gone;
    return answer;
  }
  ucred owner{};
  socklen_t length = sizeof owner;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &owner, &length) != 0) return answer;
  if (owner.uid != ::geteuid() && ::geteuid() != 0) {
    answer.outcome = Outcome::of_another_user;
    answer.user = owner.uid;
    return answer;
  }
  constexpr std::string_view request = "json\n";
  if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return answer;
  std::optional<std::string> text = read_all(socket.get());
  if (!text) {
    answer.outcome = Outcome::silent;
  } else if (text->starts_with('{')) {
    answer.outcome = Outcome::answered;
    answer.json = std::move(*text);
  }
  return answer;
}

std::optional<std::string> command_of(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/comm");
  std::string name;
  if (!std::getline(file, name)) return std::nullopt;
  return name;
}

}  // namespace verbena::tools
