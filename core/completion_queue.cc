// SPDX-License-Identifier: Apache-2.0
#include "core/completion_queue.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

#include "core/error.h"

namespace verbena::core {
namespace {

Handle<ibv_comp_channel> create_channel(Device& device) {
  ibv_comp_channel* channel = device.create_comp_channel();
  if (channel == nullptr) throw_verb_error(device.name(), "ibv_create_comp_channel", errno);
  Handle<ibv_comp_channel> handle{device, channel};
  const int flags = fcntl(channel->fd, F_GETFL);
  if (flags < 0 || fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    throw_verb_error(device.name(), "fcntl(O_NONBLOCK) of a completion channel", errno);
  }
  return handle;
}

Handle<ibv_cq> create_queue(Device& device, int depth, ibv_comp_channel* channel) {
  ibv_cq* cq = device.create_cq(depth, nullptr, channel, 0);
  if (cq == nullptr)
    throw_verb_error(device.name(), "ibv_create_cq", errno, fmt::format("{} entries", depth));
  return {device, cq};
}

}  // namespace

CompletionQueue::CompletionQueue(Device& device, int depth)
    : device_(device), channel_(create_channel(device)), cq_(create_queue(device, depth, channel_.get())) {}

bool CompletionQueue::consume_events() noexcept {
  unsigned int count = 0;
  ibv_cq* cq = nullptr;
  void* cq_context = nullptr;
  while (device_.get_cq_event(channel_.get(), &cq, &cq_context) == 0) ++count;
  // One acknowledgement for all of them: each takes the queue's mutex.
  if (count != 0) device_.ack_cq_events(cq_.get(), count);
  return count != 0;
}

}  // namespace verbena::core
