// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "core/soft/context.h"

namespace verbena::core::soft {

EventQueue::EventQueue() : event_(::eventfd(0, EFD_CLOEXEC)) {}

void EventQueue::push(const ibv_async_event& event) {
  {
    const std::lock_guard guard(mutex_);
    events_.push_back(event);
  }
  wake(event_.get());
}

int EventQueue::get(ibv_async_event& event) {
  for (;;) {
    {
      const std::lock_guard guard(mutex_);
      pollfd readable{event_.get(), POLLIN, 0};
      if (::poll(&readable, 1, 0) == 1) {
        std::uint64_t count;
        [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof count);
      }
      if (!events_.empty()) {
        event = events_.front();
        events_.pop_front();
        if (!events_.empty()) wake(event_.get());
        return 0;
      }
    }
    if (::fcntl(event_.get(), F_GETFL) & O_NONBLOCK) {
      errno = EAGAIN;
      return -1;
    }
    pollfd readable{event_.get(), POLLIN, 0};
    if (::poll(&readable, 1, -1) < 0) return -1;
  }
}

void EventQueue::forget(const void* element) {
  const std::lock_guard guard(mutex_);
  std::erase_if(events_, [&](const ibv_async_event& event) { return event.element.qp == element; });
}

}  // namespace verbena::core::soft
