// SPDX-License-Identifier: Apache-2.0
// Memory that the loop didn't make: segments, files, other devices'.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include <algorithm>

#include "transport/reacher.h"

namespace verbena::test {
namespace {

constexpr std::size_t length = 50'000;

/// A mapping that ends with this.
class Mapped {
 public:
  Mapped(int fd, int protection, int kind = MAP_SHARED)
      : bytes_(static_cast<std::byte*>(mmap(nullptr, length, protection, kind, fd, 0)), length) {
    if (bytes_.data() == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  }
  ~Mapped() { munmap(bytes_.data(), length); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

/// `length` bytes under a descriptor, for as long as this lives.
class File {
 public:
  explicit File(int fd) : fd_(fd) {
    if (fd_ < 0 || ftruncate(fd_, length) != 0)
      throw std::system_error(errno, std::generic_category(), "file");
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  void write(const Message& bytes) const {
    ASSERT_EQ(pwrite(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }

 private:
  int fd_;
};

/// A file of the file system, without a name.
int open_regular_file() {
  char name[] = "/tmp/verbena-test.XXXXXX";
  const int fd = mkstemp(name);
  unlink(name);
  return fd;
}

class MemoryOfOthersTest : public testing::Test {
 protected:
  Loop loop{small_options()};
  Reacher peer{loop};
};

TEST_F(MemoryOfOthersTest, WhatPeersWriteToASegmentIsSeenByAllWhoMapIt) {
  const File segment{memfd_create("segment", MFD_CLOEXEC)};
  const Mapped mine{segment.fd(), PROT_READ | PROT_WRITE};
  const Mapped anothers{segment.fd(), PROT_READ};
  const Region region = loop.memory().share(mine.bytes(), Access::all);
  EXPECT_EQ(peer.write(region.remote(), 1), std::error_code{});
  expect_equal(anothers.bytes(), message(length, 1));
  segment.write(message(length, 2));
  EXPECT_TRUE(peer.read(region.remote(), 2).equal);
  peer.finish();
}

TEST_F(MemoryOfOthersTest, ASegmentOfPosixIsReachedByItsName) {
  const std::string name = "/verbena-test." + std::to_string(getpid());
  const File segment{shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  shm_unlink(name.c_str());
  const Mapped mine{segment.fd(), PROT_READ | PROT_WRITE};
  const Region region = loop.memory().share(mine.bytes(), Access::remote_write | Access::remote_read);
  EXPECT_EQ(peer.write(region.remote(), 7), std::error_code{});
  expect_equal(mine.bytes(), message(length, 7));
  EXPECT_TRUE(peer.read(region.remote(), 7).equal);
  peer.finish();
}

TEST_F(MemoryOfOthersTest, ASegmentOfSystemVIsReached) {
  const int id = shmget(IPC_PRIVATE, length, IPC_CREAT | 0600);
  ASSERT_GE(id, 0);
  void* const at = shmat(id, nullptr, 0);
  shmctl(id, IPC_RMID, nullptr);
  ASSERT_NE(at, reinterpret_cast<void*>(-1));
  {
    const std::span<std::byte> bytes(static_cast<std::byte*>(at), length);
    const Region region = loop.memory().share(bytes, Access::all);
    EXPECT_EQ(peer.write(region.remote(), 8), std::error_code{});
    expect_equal(bytes, message(length, 8));
  }
  shmdt(at);
  peer.finish();
}

// ---- Files ----

TEST_F(MemoryOfOthersTest, ThePagesOfAFileAreServed) {
  const File file{open_regular_file()};
  file.write(message(length, 9));
  const Mapped pages{file.fd(), PROT_READ, MAP_PRIVATE};
  const Region region = loop.memory().share(std::span<const std::byte>(pages.bytes()));
  EXPECT_TRUE(peer.read(region.remote(), 9).equal);
  if (on_soft0()) {  // devices of Linux before 6.2 have pinned copies
    file.write(message(length, 10));
    EXPECT_TRUE(peer.read(region.remote(), 10).equal) << "they are the file's own pages";
  }
  peer.finish();
}

TEST_F(MemoryOfOthersTest, AFileThatIsServedCanNotBeWritten) {
  const File file{open_regular_file()};
  file.write(message(length, 9));
  const Mapped pages{file.fd(), PROT_READ, MAP_PRIVATE};
  const Region region = loop.memory().share(std::span<const std::byte>(pages.bytes()));
  EXPECT_EQ(peer.write(region.remote(), 1), code(errc::remote_access));
  expect_equal(pages.bytes(), message(length, 9));
  EXPECT_THROW(loop.memory().share(std::span<const std::byte>(pages.bytes()), Access::remote_write), Error);
  peer.finish();
}

TEST_F(MemoryOfOthersTest, AFileThatHasBecomeShorterEndsTheProcessOfNobody) {
  const File file{open_regular_file()};
  file.write(message(length, 9));
  const Mapped pages{file.fd(), PROT_READ, MAP_PRIVATE};
  const Region region = loop.memory().share(std::span<const std::byte>(pages.bytes()));
  ASSERT_EQ(ftruncate(file.fd(), 0), 0);
  const auto read = peer.read(region.remote(), 9);
  if (on_soft0()) {
    EXPECT_EQ(read.error, code(errc::remote_operation));
  } else {
    EXPECT_TRUE(read.equal) << "the device has the pages pinned";
  }
  peer.finish();
}

// ---- Other devices ----

TEST(DmaBufTest, ADeviceThatCanNotSaysWhoAndWhy) {
  Loop loop{small_options()};
  const File file{memfd_create("no dma-buf", MFD_CLOEXEC)};
  try {
    loop.memory().share_dmabuf(file.fd(), 0, 4096, Access::remote_read);
    FAIL() << "neither soft0 nor SoftRoCE can";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code(errc::not_supported));
    const std::string sentence = error.what();
    EXPECT_NE(sentence.find("ibv_reg_dmabuf_mr on device " + device_name()), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("lacks this verb"), std::string::npos) << sentence;
  }
}

}  // namespace
}  // namespace verbena::test
