// SPDX-License-Identifier: Apache-2.0
#include "core/soft/shared_receive_queue.h"

#include <mutex>

#include "core/soft/completion_queue.h"
#include "core/soft/context.h"

namespace verbena::core::soft {

int SharedReceiveQueue::post(ibv_recv_wr* request, ibv_recv_wr** bad) noexcept {
  const std::lock_guard guard(lock);
  for (; request; request = request->next) {
    if (const int error = queue.post(*request)) {
      *bad = request;
      return error;
    }
  }
  return 0;
}

bool SharedReceiveQueue::take(Receive& receive) noexcept {
  if (exclusive()) {
    if (!queue.take(receive)) return false;
  } else {
    const std::lock_guard guard(lock);
    if (!queue.take(receive)) return false;
  }
  check_limit();
  return true;
}

void SharedReceiveQueue::tell_limit() noexcept {
  std::uint32_t asked = limit.load(std::memory_order_relaxed);
  if (queue.size() >= asked) return;
  // Once, whoever sees it first.
  if (asked == 0 || !limit.compare_exchange_strong(asked, 0, std::memory_order_relaxed)) return;
  ibv_async_event event{};
  event.event_type = IBV_EVENT_SRQ_LIMIT_REACHED;
  event.element.srq = this;
  owner_context.events().push(event);
}

void SharedReceiveQueue::add_user(CompletionQueue& cq) noexcept {
  if (users_++ == 0) {
    taker_ = &cq;
    many_take_.store(false, std::memory_order_relaxed);  // nobody takes yet
  } else if (taker_ != &cq && !many_take_.load(std::memory_order_relaxed)) {
    const std::lock_guard guard(
        taker_->lock);  // none of its takings is under way, and the next one sees this
    many_take_.store(true, std::memory_order_relaxed);
  }
}

void SharedReceiveQueue::remove_user() noexcept {
  if (--users_ == 0) taker_ = nullptr;
}

}  // namespace verbena::core::soft
