// SPDX-License-Identifier: Apache-2.0
#include "core/queue_pair_manager.h"

#include <cassert>
#include <utility>

namespace verbena::core {
namespace {

/// The drain marker's own place in the send queue, so that a queue full of sends can still be drained.
constexpr std::uint32_t marker_slots = 1;

QueuePairOptions with_marker(QueuePairOptions options) {
  options.send_depth += marker_slots;
  return options;
}

int post_marker(QueuePair& queue_pair) {
  ibv_send_wr marker{};
  marker.wr_id = QueuePairManager::drain_marker;
  marker.opcode = IBV_WR_SEND;
  marker.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  return ibv_post_send(queue_pair.get(), &marker, &bad);
}

}  // namespace

QueuePairManager::QueuePairManager(Device& device, ibv_pd* pd, ibv_cq* cq, ibv_srq* srq,
                                   const QueuePairOptions& options, std::size_t keep_idle)
    : device_(device), pd_(pd), cq_(cq), srq_(srq), options_(with_marker(options)), keep_idle_(keep_idle) {
  idle_.reserve(keep_idle_);
}

QueuePairManager::~QueuePairManager() = default;

QueuePair& QueuePairManager::acquire() {
  std::unique_ptr<QueuePair> queue_pair;
  if (!idle_.empty()) {
    queue_pair = std::move(idle_.back());
    idle_.pop_back();
  } else {
    queue_pair = std::make_unique<QueuePair>(device_, pd_, cq_, cq_, srq_, options_);
  }
  QueuePair& reference = *queue_pair;
  active_.emplace(reference.number(), std::move(queue_pair));
  return reference;
}

void QueuePairManager::retire(QueuePair& queue_pair) noexcept {
  auto node = active_.extract(queue_pair.number());
  assert(!node.empty() && "retired twice, or acquired from another manager");
  if (node.empty()) return;
  queue_pair.fail();
  // Without a marker nothing will tell when it has drained: then destroying it, here, is what makes the
  // device let go.
  if (post_marker(queue_pair) == 0) draining_.insert(std::move(node));
}

void QueuePairManager::on_drained(std::uint32_t number) noexcept {
  auto node = draining_.extract(number);
  if (node.empty() || idle_.size() >= keep_idle_) return;  // the node destroys it
  try {
    node.mapped()->recycle();
    idle_.push_back(std::move(node.mapped()));
  } catch (const std::system_error&) {
    // A queue pair that can't be reset isn't worth keeping; a new one is made where it is needed.
  }
}

}  // namespace verbena::core
