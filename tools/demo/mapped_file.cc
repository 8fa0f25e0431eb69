// SPDX-License-Identifier: Apache-2.0
#include "tools/demo/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Failure(fmt::format("'{}' can't be served: {}.", path, why));
}

/// Closes itself.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // A fifo without a writer would stop open() for ever.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) refuse(path, std::strerror(errno));
  struct stat facts {};
  if (::fstat(file.number, &facts) != 0) refuse(path, std::strerror(errno));
  if (!S_ISREG(facts.st_mode)) refuse(path, "it is not a regular file; name one");
  if (facts.st_size == 0) refuse(path, "it is empty; name a file of at least one byte");
  const auto size = static_cast<std::size_t>(facts.st_size);
  // Private, though nothing is written: before Linux 6.2 the kernel registers a read-only mapping only where
  // it could copy a page on a write (and answers EFAULT for a shared one).
  void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (memory == MAP_FAILED) refuse(path, std::strerror(errno));
  bytes_ = {static_cast<const std::byte*>(memory), size};
}

MappedFile::~MappedFile() {
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace verbena::tools
