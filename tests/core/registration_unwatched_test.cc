// SPDX-License-Identifier: Apache-2.0
// Memory that can't be watched.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "core/cache_fixture.h"
#include "support/child.h"

namespace verbena::test {
namespace {

using core::MemoryWatcher;
using core::Pin;
using core::RegistrationCache;

TEST_F(RegistrationCacheTest, MappingsOfFilesAreRegisteredForEachUseAndThatIsSaidOnce) {
  RegistrationCache& cache = make();
  const int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(page)) != 0) GTEST_SKIP() << "no file to map here";
  {
    const Mapping memory{1, MAP_SHARED, fd};
    testing::internal::CaptureStderr();
    const std::uint32_t first = cache.acquire(memory.at(0), page, local).lkey();
    const Pin pin = cache.acquire(memory.at(0), page, local);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(pin.lkey(), first);
    EXPECT_EQ(registrar().live(), 1U);
    EXPECT_EQ(cache.counters().unwatched, 2U);
    EXPECT_EQ(cache.counters().entries, 0U);
    EXPECT_NE(said.find("can't be watched"), said.npos) << said;
    EXPECT_EQ(said.find("verbena"), said.rfind("verbena")) << "said more than once";
  }
  close(fd);
}

/// userfaultfd(2) answers EPERM from now on.
void forbid_userfaultfd() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the system call's number
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw std::system_error(errno, std::generic_category(), "seccomp");
  }
}

const Role forbidden{"cache without userfaultfd", [](Line& parent) {
                       forbid_userfaultfd();
                       FakeRegistrar registrar;
                       RegistrationCache cache{registrar, core::process_watcher()};
                       Mapping memory{1};
                       bool right = !core::process_watcher().works();
                       testing::internal::CaptureStderr();
                       for (std::uint64_t round = 1; round < 100; ++round) {
                         std::memcpy(memory.at(0), &round, sizeof round);
                         std::error_code error;
                         const Pin pin = cache.acquire(memory.at(0), page, local, error);
                         right = right && pin && registrar.transfer(pin.lkey(), memory.at(0)) == round;
                         right = right && registrar.live() == 1 && pin.current() && cache.settle();
                         memory.unmap();
                         memory.map_again();
                       }
                       const std::string said = testing::internal::GetCapturedStderr();
                       right = right && said.find("seccomp") != said.npos;
                       right = right && said.find("verbena") == said.rfind("verbena");
                       right = right && cache.counters().unwatched == 99 && registrar.live() == 0;
                       parent.put(right);
                     }};

TEST(RegistrationCacheWithoutUserfaultfdTest, IsRightAndSlowerAndSaysSoOnce) {
  Child child{"cache without userfaultfd"};
  EXPECT_TRUE(child.line().get<bool>());
  EXPECT_EQ(child.join(), 0);
}

}  // namespace
}  // namespace verbena::test
