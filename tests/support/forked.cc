// SPDX-License-Identifier: Apache-2.0
#include "support/forked.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>

#include "support/patience.h"

namespace verbena::test {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "in the forked child it doesn't hold that %s\n", what);
  _exit(1);
}

Forked::Forked(const std::function<void()>& play) : pid_(fork()) {
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ != 0) return;
  try {
    play();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "in the forked child: %s\n", error.what());
    _exit(1);
  }
  _exit(0);
}

Forked::~Forked() {
  if (ended_) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool Forked::has_ended() {
  if (!ended_) ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return ended_;
}

int Forked::join() {
  wait_until("a forked child's end", [this] { return has_ended(); });
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : -1;
}

}  // namespace verbena::test
