// SPDX-License-Identifier: Apache-2.0
#include "support/refused_call.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>

namespace verbena::test {

void refuse_system_call(long number) {
  std::array<sock_filter, 4> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{filter.size(), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw std::system_error(errno, std::generic_category(), "seccomp");
  }
}

CaughtStderr::CaughtStderr() : file_(memfd_create("stderr", MFD_CLOEXEC)), real_(dup(STDERR_FILENO)) {
  if (file_ < 0 || real_ < 0 || dup2(file_, STDERR_FILENO) < 0)
    throw std::system_error(errno, std::generic_category(), "catching stderr");
}

std::string CaughtStderr::text() {
  dup2(real_, STDERR_FILENO);
  std::string text(static_cast<std::size_t>(lseek(file_, 0, SEEK_END)), '\0');
  if (pread(file_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    throw std::system_error(errno, std::generic_category(), "reading what was said");
  return text;
}

}  // namespace verbena::test
