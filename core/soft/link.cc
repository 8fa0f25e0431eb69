// SPDX-License-Identifier: Apache-2.0
#include "core/soft/link.h"

#include "core/soft/completion_channel.h"

namespace verbena::core::soft {

void Link::ring_bell(bool solicited) noexcept {
  const std::uint32_t index = index_of(peer_number);
  // The byte before the summary, both after the entry: the poller reads them the other way round.
  Bell::byte(bell->groups, index).store(1, std::memory_order_release);
  Bell::byte(bell->summary, index / 64).store(1, std::memory_order_release);
  light_fence(fence);  // our bell, then its armed state: see CompletionQueue::arm
  const Armed wish = armed->load(std::memory_order_relaxed);
  if (wish == Armed::any || (wish == Armed::solicited && solicited)) {
    if (receive_event) wake(receive_event->get());
  }
}

void Link::answer_wish() noexcept {
  if (in->wants_event.exchange(0, std::memory_order_acq_rel) && send_event) wake(send_event->get());
}

}  // namespace verbena::core::soft
