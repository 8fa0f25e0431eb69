// SPDX-License-Identifier: Apache-2.0
#include "core/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

#include "verbena/error.h"

namespace verbena::core {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

std::size_t round_up(std::size_t length, std::size_t page) {
  return (length + page - 1) / page * page;
}

std::size_t free_huge_pages() {
  std::ifstream file{"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"};
  std::size_t count = 0;
  return file >> count ? count : 0;
}

[[noreturn]] void throw_failure(const char* call, std::size_t length) {
  const int error = errno;
  const char* remedy = error == EMFILE   ? " (the limit on open files is met: raise `ulimit -n`)"
                       : error == ENOMEM ? " (the limit on memory or address space is met: see `ulimit -v`)"
                                         : "";
  throw Error(errc::device_failed, fmt::format("{} of {} bytes of shared memory failed: {}{}", call, length,
                                               std::generic_category().message(error), remedy));
}

/// A sealed memfd and its mapping, until a SharedMemory takes them over.
struct Mapping {
  int fd = -1;
  void* address = MAP_FAILED;

  ~Mapping() {
    if (fd >= 0) close(fd);
  }
};

/// The name of the call that failed, or nullptr. With huge pages a failure is no more than a hint to go
/// without.
const char* map(Mapping& mapping, std::size_t length, unsigned int flags) {
  mapping.fd = memfd_create("verbena", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
  if (mapping.fd < 0) return "memfd_create";
  if (ftruncate(mapping.fd, static_cast<off_t>(length)) != 0) return "ftruncate";
  // A peer that maps it must never meet SIGBUS because the file has become shorter.
  if (fcntl(mapping.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) return "sealing";
  mapping.address = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, mapping.fd, 0);
  return mapping.address == MAP_FAILED ? "mmap" : nullptr;
}

}  // namespace

SharedMemory::SharedMemory(std::size_t length, bool huge_pages) {
  const std::size_t huge_size = round_up(length, huge_page);
  if (huge_pages && length != 0 && free_huge_pages() >= huge_size / huge_page) {
    Mapping mapping;
    if (map(mapping, huge_size, MFD_HUGETLB) == nullptr) {
      fd_ = std::exchange(mapping.fd, -1);
      data_ = static_cast<std::byte*>(mapping.address);
      size_ = huge_size;
      huge_ = true;
      return;
    }
  }
  Mapping mapping;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  size_ = round_up(length == 0 ? 1 : length, page);
  if (const char* failed = map(mapping, size_, 0)) throw_failure(failed, size_);
  fd_ = std::exchange(mapping.fd, -1);
  data_ = static_cast<std::byte*>(mapping.address);
  // Only a wish: the kernel may have transparent huge pages for shared memory switched off.
  if (huge_pages && size_ >= huge_page) madvise(data_, size_, MADV_HUGEPAGE);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      huge_(std::exchange(other.huge_, false)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  SharedMemory taken{std::move(other)};
  std::swap(fd_, taken.fd_);
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(huge_, taken.huge_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) munmap(data_, size_);
  if (fd_ >= 0) close(fd_);
}

}  // namespace verbena::core
