// SPDX-License-Identifier: Apache-2.0
#include "tools/common/floor.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "tools/common/failure.h"
#include "tools/common/spin.h"

namespace verbena::tools {
namespace {

/// Two lines apart, because processors fetch pairs of 64-byte lines together.
struct alignas(128) Line {
  std::uint64_t payload;
  std::atomic<std::uint64_t> sequence;

  void send(std::uint64_t number) noexcept {
    payload = number;
    sequence.store(number, std::memory_order_release);
  }
  std::uint64_t await(std::uint64_t number) noexcept {
    spin_until([&] { return sequence.load(std::memory_order_acquire) == number; });
    return payload;
  }
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "another process reads it");

[[noreturn]] void fail(const char* what) {
  throw Failure(fmt::format("the floor can't be measured: {}: {}.", what, std::strerror(errno)));
}

}  // namespace

struct Floor::Page {
  Line there;
  Line back;
};

Floor Floor::create() {
  const int fd = ::memfd_create("verbena-floor", MFD_CLOEXEC);
  if (fd < 0) fail("memfd_create");
  if (::ftruncate(fd, sizeof(Page)) != 0) fail("ftruncate");
  return open(fd);
}

Floor Floor::open(int fd) {
  void* const memory = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return {fd, static_cast<Page*>(memory)};  // zeroed pages: both sequences are 0
}

Floor::Floor(Floor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      page_(std::exchange(other.page_, nullptr)),
      sequence_(other.sequence_) {}

Floor::~Floor() {
  if (page_ != nullptr) ::munmap(page_, sizeof(Page));
  if (fd_ >= 0) ::close(fd_);
}

void Floor::ping(std::size_t round_trips, Samples& samples) noexcept {
  Ticks before = now_ticks();
  for (std::size_t i = 0; i < round_trips; ++i) {
    page_->there.send(++sequence_);
    page_->back.await(sequence_);
    const Ticks now = now_ticks();
    if (i >= warm_up) samples.add(now - before);
    before = now;
  }
}

void Floor::pong(std::size_t round_trips) noexcept {
  for (std::size_t i = 0; i < round_trips; ++i) {
    ++sequence_;
    page_->back.send(page_->there.await(sequence_));
  }
}

}  // namespace verbena::tools
