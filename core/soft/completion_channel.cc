// SPDX-License-Identifier: Apache-2.0
#include "core/soft/completion_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "core/soft/completion_queue.h"

namespace verbena::core::soft {

void wake(int event) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event, &one, sizeof one);
}

namespace {

std::uint32_t next_number() noexcept {
  static std::atomic<std::uint32_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

CompletionChannel::CompletionChannel(ibv_context* opened)
    : ibv_comp_channel{}, number(next_number()), event_(::eventfd(0, EFD_CLOEXEC)) {
  context = opened;
  fd = event_.get();
}

void CompletionChannel::attach(CompletionQueue& cq) {
  const std::lock_guard guard(list_mutex_);
  queues_.push_back(&cq);
}

void CompletionChannel::detach(CompletionQueue& cq) noexcept {
  const std::scoped_lock guard(list_mutex_, mutex_);
  std::erase(queues_, &cq);
  std::erase(events_, &cq);
}

bool CompletionChannel::in_use() noexcept {
  const std::lock_guard guard(list_mutex_);
  return !queues_.empty();
}

void CompletionChannel::notify(CompletionQueue& cq) noexcept {
  {
    const std::lock_guard guard(mutex_);
    events_.push_back(&cq);
  }
  wake(fd);
}

CompletionQueue* CompletionChannel::pop() noexcept {
  const std::lock_guard guard(mutex_);
  if (events_.empty()) return nullptr;
  CompletionQueue* cq = events_.front();
  events_.pop_front();
  ++cq->events_delivered;
  if (!events_.empty()) wake(fd);  // still readable for the next
  return cq;
}

// Only while mutex_ is held is the descriptor read, so that a read never finds it empty and blocks.
void CompletionChannel::drain() noexcept {
  const std::lock_guard guard(mutex_);
  pollfd readable{fd, POLLIN, 0};
  if (::poll(&readable, 1, 0) != 1) return;
  std::uint64_t count;
  [[maybe_unused]] const ssize_t got = ::read(fd, &count, sizeof count);
  if (!events_.empty()) wake(fd);
}

// With its event fetched the descriptor isn't readable any more. The hint of a peer that this takes away is
// answered by polling the queues that are still armed.
void CompletionChannel::settle() noexcept {
  drain();
  poll_armed();
}

void CompletionChannel::poll_armed() noexcept {
  const std::lock_guard guard(list_mutex_);
  for (CompletionQueue* cq : queues_) {
    const std::lock_guard queue_guard(cq->lock);
    if (cq->is_armed()) cq->progress_armed();
  }
}

int CompletionChannel::get(CompletionQueue** cq) {
  for (;;) {
    drain();  // first: what a peer puts in place after this makes the descriptor readable again
    poll_armed();
    if ((*cq = pop())) {
      settle();
      return 0;
    }
    if (::fcntl(fd, F_GETFL) & O_NONBLOCK) {
      errno = EAGAIN;
      return -1;
    }
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, -1) < 0) return -1;  // EINTR: as a blocking read would
  }
}

}  // namespace verbena::core::soft
