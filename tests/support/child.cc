// SPDX-License-Identifier: Apache-2.0
#include "support/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <vector>

#include "support/patience.h"

namespace verbena::test {
namespace {

constexpr std::string_view role_flag = "--role=";
constexpr int child_socket = 3;

std::map<std::string, std::function<void(Line&)>, std::less<>>& roles() {
  static std::map<std::string, std::function<void(Line&)>, std::less<>> known;
  return known;
}

std::array<int, 2> socket_pair() {
  std::array<int, 2> sockets{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  return sockets;
}

/// Between fork and exec: only what is safe there.
[[noreturn]] void become(const char* role_argument, int socket) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (socket == child_socket) {
    fcntl(socket, F_SETFD, 0);
  } else {
    dup2(socket, child_socket);
  }
  const std::array<const char*, 3> arguments{"/proc/self/exe", role_argument, nullptr};
  execv(arguments[0], const_cast<char* const*>(arguments.data()));
  _exit(127);
}

}  // namespace

void Line::put_bytes(const void* data, std::size_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size != 0) {
    const ssize_t done = ::send(socket_, at, size, MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw std::system_error(errno, std::generic_category(), "writing to the other process");
    at += done;
    size -= static_cast<std::size_t>(done);
  }
}

void Line::get_bytes(void* data, std::size_t size) {
  auto* at = static_cast<char*>(data);
  while (size != 0) {
    pollfd descriptor{socket_, POLLIN, 0};
    const auto limit = std::chrono::milliseconds{patience} * 3;  // the other side may be waiting itself
    if (poll(&descriptor, 1, static_cast<int>(limit.count())) == 0) {
      throw Impatience("waited in vain for a word of the other process");
    }
    const ssize_t done = ::read(socket_, at, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) throw std::runtime_error("the other process is gone");
    at += done;
    size -= static_cast<std::size_t>(done);
  }
}

bool Line::sleep_until_woken() {
  char byte = 0;
  ssize_t done = 0;
  do {
    done = ::read(socket_, &byte, 1);
  } while (done < 0 && errno == EINTR);
  return done == 1;
}

void Line::wake() {
  put('!');
}

Role::Role(const char* name, std::function<void(Line&)> play) {
  roles().emplace(name, std::move(play));
}

std::optional<int> play_role(int argc, char** argv) {
  if (argc < 2 || !std::string_view{argv[1]}.starts_with(role_flag)) return std::nullopt;
  const std::string_view name = std::string_view{argv[1]}.substr(role_flag.size());
  const auto role = roles().find(name);
  if (role == roles().end()) {
    std::fprintf(stderr, "there is no role %s\n", argv[1]);
    return 2;
  }
  Line line{child_socket};
  try {
    role->second(line);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "role %s: %s\n", role->first.c_str(), error.what());
    return 1;
  }
}

Child::Child(const std::string& role) : Child(role, socket_pair().data()) {}

Child::Child(const std::string& role, int sockets[2]) : socket_(sockets[0]), line_(socket_) {
  const std::string argument = std::string{role_flag} + role;
  pid_ = fork();
  if (pid_ == 0) become(argument.c_str(), sockets[1]);
  close(sockets[1]);
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
}

Child::~Child() {
  kill();
  close(socket_);
}

void Child::signal(int number) {
  if (pid_ > 0) ::kill(pid_, number);
}

void Child::kill() {
  signal(SIGKILL);
  reap();
}

int Child::join() {
  if (pid_ <= 0) return -1;
  wait_until("a test's second process to end", [&] {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid_;
  });
  return reap();
}

int Child::reap() {
  if (pid_ <= 0) return -1;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace verbena::test
