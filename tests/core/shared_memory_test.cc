// SPDX-License-Identifier: Apache-2.0
#include "core/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>

#include "verbena/error.h"

namespace verbena::core {
namespace {

TEST(SharedMemoryTest, IsZeroedPageAlignedAndRoundedUp) {
  const SharedMemory memory{5000};
  EXPECT_EQ(memory.size() % 4096, 0U);
  EXPECT_GE(memory.size(), 5000U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 4096, 0U);
  EXPECT_TRUE(std::all_of(memory.bytes().begin(), memory.bytes().end(),
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST(SharedMemoryTest, IsSealedAgainstShrinkingAndGrowing) {
  const SharedMemory memory{4096};
  const int fd = memory.range().fd;
  EXPECT_EQ(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
  EXPECT_EQ(ftruncate(fd, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

TEST(SharedMemoryTest, ASecondMappingOfItsFileSeesTheSameBytes) {
  const SharedMemory memory{8192};
  const SharedRange range = memory.range();
  void* second =
      mmap(nullptr, range.length, PROT_READ, MAP_SHARED, range.fd, static_cast<off_t>(range.offset));
  ASSERT_NE(second, MAP_FAILED);
  memory.data()[5000] = std::byte{0x7f};
  EXPECT_EQ(static_cast<const std::byte*>(second)[5000], std::byte{0x7f});
  munmap(second, range.length);
}

TEST(SharedMemoryTest, IsSharedWithAForkedChild) {
  const SharedMemory memory{4096};
  const pid_t child = fork();
  if (child == 0) {
    memory.data()[0] = std::byte{9};
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(memory.data()[0], std::byte{9});
}

TEST(SharedMemoryTest, MovingHandsItOver) {
  SharedMemory from{4096};
  std::byte* const data = from.data();
  SharedMemory into{8192};
  into = std::move(from);
  EXPECT_EQ(into.data(), data);
  EXPECT_EQ(into.size(), 4096U);
  const SharedMemory third{std::move(into)};
  EXPECT_EQ(third.data(), data);
}

TEST(SharedMemoryTest, HugePagesAreUsedWhereSomeAreFree) {
  std::size_t free_pages = 0;
  std::ifstream{"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"} >> free_pages;
  const SharedMemory memory{3 << 20};
  if (free_pages < 2) {
    EXPECT_FALSE(memory.huge_pages());
    EXPECT_EQ(memory.size(), std::size_t{3} << 20);
  } else {
    EXPECT_TRUE(memory.huge_pages());
    EXPECT_EQ(memory.size(), std::size_t{4} << 20);
  }
  EXPECT_FALSE(SharedMemory(3 << 20, false).huge_pages());
}

TEST(SharedMemoryTest, AFailureSaysHowMuchWasAskedForAndWhichLimitWasMet) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string sentence;
  try {
    const SharedMemory memory{4096, false};
  } catch (const Error& error) {
    sentence = error.what();
    EXPECT_EQ(error.code(), errc::device_failed);
  }
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_NE(sentence.find("4096 bytes"), sentence.npos) << sentence;
  EXPECT_NE(sentence.find("ulimit -n"), sentence.npos) << sentence;
}

TEST(SharedMemoryTest, LeavesNoDescriptorBehind) {
  const int before = dup(0);
  close(before);
  for (int i = 0; i < 10; ++i) const SharedMemory memory{4096};
  const int after = dup(0);
  close(after);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace verbena::core
