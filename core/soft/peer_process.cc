// SPDX-License-Identifier: Apache-2.0
#include "core/soft/peer_process.h"

#include <algorithm>
#include <mutex>

#include "core/soft/control.h"

namespace verbena::core::soft {

EventPointer PeerProcess::event(std::uint32_t number, Descriptor descriptor) {
  std::erase_if(events_, [](const auto& known) { return known.second.expired(); });
  const auto found = std::ranges::find(events_, number, [](const auto& known) { return known.first; });
  if (found != events_.end()) return found->second.lock();
  if (!descriptor) return nullptr;
  const auto event = std::make_shared<const Descriptor>(std::move(descriptor));
  events_.emplace_back(number, event);
  return event;
}

PeerMemory PeerProcess::memory(std::uint32_t id) noexcept {
  const std::lock_guard guard(memory_lock_);
  for (const Memory& memory : memories_) {
    if (memory.id != id) continue;
    if (memory.pending) return {true, nullptr, 0};
    return {false, static_cast<std::byte*>(memory.mapping->get()), memory.mapping->size()};
  }
  constexpr std::size_t most = 4096;  // mappings of one peer: a runaway peer can't fill our address space
  if (memories_.size() >= most) return {false, nullptr, 0};
  ControlMessage request;
  request.kind = ControlKind::memory_request;
  request.id = id;
  if (send_control(out.get(), request) == 0) memories_.push_back({id, true, nullptr});
  return {true, nullptr, 0};
}

void PeerProcess::add_memory(std::uint32_t id, Mapping mapping) {
  const std::lock_guard guard(memory_lock_);
  for (Memory& memory : memories_) {
    if (memory.id != id || !memory.pending) continue;
    memory.pending = false;
    memory.mapping = std::make_shared<const Mapping>(std::move(mapping));
    return;
  }
}

std::shared_ptr<const Mapping> PeerProcess::remove_memory(std::uint32_t id) noexcept {
  const std::lock_guard guard(memory_lock_);
  const auto found = std::ranges::find(memories_, id, &Memory::id);
  if (found == memories_.end()) return nullptr;
  auto mapping = std::move(found->mapping);
  memories_.erase(found);
  memory_epoch.fetch_add(1, std::memory_order_release);  // before the mapping goes; see Context::pause_all
  return mapping;
}

}  // namespace verbena::core::soft
