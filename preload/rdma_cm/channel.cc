// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

namespace verbena::preload::rdma_cm {
namespace {

// Beside handles, which have 32 bits.
constexpr std::uint64_t own_signal = ~std::uint64_t{0};
constexpr std::uint64_t kernels = own_signal - 1;

/// Whether every handler of the program's wants interrupted calls to go on, as the kernel's own would.
bool handlers_restart() noexcept {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) != 0) continue;
    const bool has_handler = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
    if (has_handler && !(action.sa_flags & SA_RESTART)) return false;
  }
  return true;
}

}  // namespace

Channel::Channel(int descriptor)
    : descriptor_(descriptor), pending_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event interest{EPOLLIN, {.u64 = own_signal}};
  if (!pending_ || ::epoll_ctl(descriptor_, EPOLL_CTL_ADD, pending_.get(), &interest) != 0)
    throw std::system_error(errno, std::generic_category(), "a channel of rdma_cm");
  interest.data.u64 = kernels;
  if (kernel_ && ::epoll_ctl(descriptor_, EPOLL_CTL_ADD, kernel_->descriptor(), &interest) != 0)
    throw std::system_error(errno, std::generic_category(), "a channel of rdma_cm");
}

Channel::~Channel() = default;

void Channel::watch(int socket, Handle handle) {
  epoll_event interest{EPOLLIN, {.u64 = handle}};
  if (::epoll_ctl(descriptor_, EPOLL_CTL_ADD, socket, &interest) != 0)
    throw std::system_error(errno, std::generic_category(), "a channel of rdma_cm");
}

void Channel::forget(int socket) noexcept {
  ::epoll_ctl(descriptor_, EPOLL_CTL_DEL, socket, nullptr);
}

bool Channel::for_each_ready(const std::function<void(Handle)>& act) {
  std::array<epoll_event, 64> ready;
  bool kernel_is_ready = false;
  const int count = ::epoll_wait(descriptor_, ready.data(), static_cast<int>(ready.size()), 0);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t whose = ready[static_cast<std::size_t>(i)].data.u64;
    if (whose == kernels) {
      kernel_is_ready = true;
    } else if (whose != own_signal) {
      act(static_cast<Handle>(whose));
    }
  }
  return kernel_is_ready;
}

void Channel::push(const Event& event) {
  events_.push_back(event);
  signal(true);
}

std::optional<Event> Channel::pop() {
  if (events_.empty()) return {};
  const Event first = events_.front();
  events_.pop_front();
  if (events_.empty()) signal(false);
  return first;
}

std::deque<Event> Channel::extract(const std::function<bool(const Event&)>& chosen) {
  std::deque<Event> kept;
  std::deque<Event> taken;
  for (const Event& event : events_) (chosen(event) ? taken : kept).push_back(event);
  events_ = std::move(kept);
  if (events_.empty()) signal(false);
  return taken;
}

void Channel::signal(bool on) noexcept {
  std::uint64_t count = 1;
  // Full, or empty already: either way it says what it is to say.
  [[maybe_unused]] const ssize_t moved =
      on ? ::write(pending_.get(), &count, sizeof count) : ::read(pending_.get(), &count, sizeof count);
}

int Channel::wait() const {
  if (::fcntl(descriptor_, F_GETFL) & O_NONBLOCK) return EAGAIN;
  pollfd what{descriptor_, POLLIN, 0};
  while (::poll(&what, 1, -1) < 0) {
    if (errno != EINTR || !handlers_restart()) return errno;
  }
  return what.revents & POLLNVAL ? EBADF : 0;
}

}  // namespace verbena::preload::rdma_cm
