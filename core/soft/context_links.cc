// SPDX-License-Identifier: Apache-2.0
// How two queue pairs find each other: each creates the ring that the other writes into and offers it to the
// other's process. Whoever comes second finds the first one's offer waiting.
#include <algorithm>
#include <array>
#include <cerrno>

#include "core/soft/agent.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"

namespace verbena::core::soft {
namespace {

std::uint64_t probe_cell = 0x7665'7262'656e'6121;

}  // namespace

PeerProcess* Context::find_peer(std::uint32_t block) noexcept {
  const auto found = peers_.find(block);
  return found == peers_.end() ? nullptr : found->second.get();
}

PeerProcess* Context::connect_peer(std::uint32_t block) {
  if (PeerProcess* known = find_peer(block)) return known;
  Descriptor socket = connect_to_block(block);
  if (!socket) return nullptr;
  auto peer = std::make_unique<PeerProcess>(block);
  ControlMessage hello;
  hello.kind = ControlKind::hello;
  hello.block = block_;
  hello.probe_address = reinterpret_cast<std::uint64_t>(&probe_cell);
  hello.probe_value = probe_cell;
  const std::array files{table_file_.get(), bell_file_.get()};
  if (const int error = send_control(socket.get(), hello, files)) {
    errno = error;
    return nullptr;
  }
  peer->out = std::move(socket);
  agent_->watch(*peer);
  agent_->kick();
  return peers_.emplace(block, std::move(peer)).first->second.get();
}

int Context::open_link(QueuePair& qp, std::uint32_t peer_number) {
  const std::uint32_t slots =
      ring_slots_for(std::max(qp.capacities.max_send_wr, qp.shared_receives ? 0 : qp.capacities.max_recv_wr));
  Descriptor file = create_shared_file("verbena-soft0-ring", inbound_bytes(slots));
  if (!file) return errno;
  Mapping mapping = map_inbound(file, slots);
  if (!mapping) return errno;
  Mapping guard = map_guard(file);
  if (!guard) return errno;
  auto* in =
      static_cast<Inbound*>(mapping.get());  // not constructed: that would touch, and so use, every page
  in->magic = layout_magic;
  in->version = layout_version;
  in->owner = qp.qp_num;
  in->peer = peer_number;
  in->guard = reinterpret_cast<std::uint64_t>(guard.get()) + offsetof(Inbound, guard_cell);
  in->domain = qp.domain.number;
  in->completion_queue = qp.receive_completions().index;
  in->shares_receives = qp.shared_receives || qp.xrc_space ? 1 : 0;
  in->receives.store(qp.receives_posted, std::memory_order_relaxed);
  in->access.store(static_cast<std::uint32_t>(qp.attributes.qp_access_flags), std::memory_order_relaxed);
  in->not_ready_retries.store(7, std::memory_order_relaxed);  // until the peer says otherwise
  in->state.store(LinkState::ready, std::memory_order_release);
  PeerProcess* peer = connect_peer(block_of(peer_number));  // null: no such process; sends will time out

  const BothSides locked(qp);
  Link& link = qp.link;
  link.peer = peer;
  if (peer) ++peer->users;
  link.peer_number = peer_number;
  link.in = in;
  link.in_ring = in->ring();
  link.in_slots = slots;
  link.in_mapping = std::move(mapping);
  link.guard = std::move(guard);
  if (!peer) return 0;
  std::array<int, max_descriptors> files{file.get()};
  std::size_t count = 1;
  ControlMessage offer;
  offer.kind = ControlKind::offer;
  offer.block = block_;
  offer.from = qp.qp_num;
  offer.to = peer_number;
  const CompletionChannel* const receives = qp.receive_completions().completion_channel;
  const CompletionChannel* const sends = qp.send_completions().completion_channel;
  if (receives) {
    offer.receive_event = receives->number;
    files[count++] = receives->fd;
  }
  if (sends) {
    offer.send_event = sends->number;
    if (sends != receives) files[count++] = sends->fd;
  }
  if (const int error = send_control(peer->out.get(), offer, {files.data(), count})) return error;
  if (auto waiting = offers_.extract({qp.qp_num, peer_number})) attach(qp, std::move(waiting.mapped()));
  return 0;
}

void Context::attach(QueuePair& qp, Offer offer) {
  const std::uint32_t slots = ring_slots_of(offer.inbound);
  if (slots == 0 || !offer.peer->table) return;
  Mapping mapping = map_inbound(offer.inbound, slots);
  if (!mapping) return;
  auto* out = static_cast<Inbound*>(mapping.get());
  Bell* peer_bell = offer.peer->bell(out->completion_queue);
  if (out->magic != layout_magic || out->version != layout_version || out->owner != qp.link.peer_number ||
      out->peer != qp.qp_num || !peer_bell ||
      out->state.load(std::memory_order_acquire) != LinkState::ready) {
    return;  // left over from an earlier connection, or not ours: sends wait for a better offer, for a
             // bounded time
  }
  Link& link = qp.link;
  if (!link.peer) {
    link.peer = offer.peer;
    ++link.peer->users;
  }
  link.fence = link.peer->needs_fence;
  link.bell = peer_bell;
  link.armed = &offer.peer->table
                    ->queues[(reinterpret_cast<std::byte*>(peer_bell) -
                              static_cast<std::byte*>(offer.peer->bell_mapping.get())) /
                             static_cast<std::ptrdiff_t>(bell_stride)]
                    .armed;
  link.receive_event = std::move(offer.receive_event);
  link.send_event = std::move(offer.send_event);
  link.out_mapping = std::move(mapping);
  link.peer_guard = out->guard;
  link.out = out;
  link.out_ring = out->ring();
  link.out_slots = slots;
  if (qp.current_state() == IBV_QPS_RTS) {
    out->not_ready_retries.store(qp.attributes.rnr_retry, std::memory_order_relaxed);
  }
  qp.receive_completions().watch(qp);
  qp.retire(true);  // what was posted meanwhile goes out now
  if (qp.send_completions().is_armed() && qp.has_outstanding()) qp.ask_for_event();
}

void Context::release_peer(PeerProcess* peer) noexcept {
  if (peer) --peer->users;
}

void Context::lose(PeerProcess& peer) {
  peer.gone.store(true, std::memory_order_release);
  std::erase_if(offers_, [&](const auto& entry) { return entry.second.peer == &peer; });
  for (QueuePair* qp : queue_pairs_) {
    if (qp->link.peer != &peer) continue;
    const BothSides locked(*qp);
    if (death_ == PeerDeath::after_timeout && qp->bear_loss()) {
      any_bereaved_ = true;
    } else {
      qp->lose_peer();
    }
  }
  if (auto entry = peers_.extract(peer.block)) departed_.push_back(std::move(entry.mapped()));
}

bool Context::fail_bereaved() {
  if (!any_bereaved_) return false;
  any_bereaved_ = false;
  const std::int64_t now = monotonic_ns();
  for (QueuePair* qp : queue_pairs_) {
    if (qp->fails_at == 0) continue;
    if (now < qp->fails_at) {
      any_bereaved_ = true;
      continue;
    }
    const BothSides locked(*qp);
    qp->lose_peer();
  }
  return any_bereaved_;
}

void Context::discard_departed() noexcept {
  std::erase_if(departed_, [](const auto& peer) { return peer->users == 0; });
}

}  // namespace verbena::core::soft
