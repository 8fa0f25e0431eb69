// SPDX-License-Identifier: Apache-2.0
#include "core/soft/soft_device.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>

#include "core/queue_pair_states.h"
#include "core/soft/completion_queue.h"
#include "core/soft/device.h"
#include "core/soft/gid_table.h"
#include "core/soft/multicast_group.h"

namespace verbena::core {
namespace soft {

SoftDevice::~SoftDevice() {
  if (!is_of_this_process()) return;
  while (QueuePair* const left = node_.any_queue_pair()) destroy_qp(left);
}

// ---- Addresses ----

// An empty place reads as zeros here, and as no entry there: so it does on RoCE.
int SoftDevice::query_gid(std::uint8_t port, int index, ibv_gid& gid) {
  if (port != 1 || index < 0 || index >= gid_table_length) return EINVAL;
  const auto found = gid_at(index);
  gid = found ? found->gid : ibv_gid{};
  return 0;
}

int SoftDevice::query_gid_entry(std::uint8_t port, int index, ibv_gid_entry& entry) {
  if (port != 1) return EINVAL;
  const auto found = gid_at(index);
  if (!found) return ENODATA;
  entry = *found;
  return 0;
}

// ---- Address handles ----

ibv_ah* SoftDevice::create_ah(ibv_pd* pd, ibv_ah_attr& attr) {
  if (attr.port_num != 1) return refuse<ibv_ah>(EINVAL);
  const auto source = gid_at(attr.is_global ? attr.grh.sgid_index : 0);
  if (!source) return refuse<ibv_ah>(EINVAL);
  if (node_.fails_call()) return refuse<ibv_ah>(ENOMEM);
  auto* ah = new AddressHandle;
  ah->context = context();
  ah->pd = pd;
  ah->attributes = attr;
  ah->path.source = source->gid;
  ah->path.destination = attr.is_global ? attr.grh.dgid : host_gid_once();
  ah->is_here = is_multicast_gid(ah->path.destination) || is_gid_of_this_host(ah->path.destination);
  ++static_cast<ProtectionDomain*>(pd)->users;
  return ah;
}

int SoftDevice::destroy_ah(ibv_ah* verbs) {
  auto* ah = static_cast<AddressHandle*>(verbs);
  --static_cast<ProtectionDomain*>(ah->pd)->users;
  delete ah;
  return 0;
}

// ---- Completions ----

ibv_comp_channel* SoftDevice::create_comp_channel() {
  if (node_.fails_call()) return refuse<ibv_comp_channel>(ENOMEM);
  auto* channel = new CompletionChannel(context());
  if (channel->fd >= 0) return channel;
  delete channel;
  return refuse<ibv_comp_channel>(EMFILE);
}

int SoftDevice::destroy_comp_channel(ibv_comp_channel* verbs) {
  auto* channel = static_cast<CompletionChannel*>(verbs);
  if (channel->in_use()) return EBUSY;
  delete channel;
  return 0;
}

int SoftDevice::get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  CompletionQueue* queue = nullptr;
  if (static_cast<CompletionChannel*>(channel)->get(&queue) != 0) return -1;
  *cq = queue;
  *cq_context = queue->cq_context;
  return 0;
}

void SoftDevice::ack_cq_events(ibv_cq* cq, unsigned int count) {
  pthread_mutex_lock(&cq->mutex);
  cq->comp_events_completed += count;
  pthread_cond_signal(&cq->cond);
  pthread_mutex_unlock(&cq->mutex);
}

ibv_cq* SoftDevice::create_cq(int entries, void* cq_context, ibv_comp_channel* channel, int comp_vector) {
  if (entries < 1 || entries > max_completions || comp_vector != 0) return refuse<ibv_cq>(EINVAL);
  if (node_.fails_call()) return refuse<ibv_cq>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  return node_.add_queue(entries, cq_context, static_cast<CompletionChannel*>(channel));
}

ibv_cq_ex* SoftDevice::create_cq_ex(const ibv_cq_init_attr_ex& init) {
  constexpr std::uint32_t known = IBV_CQ_INIT_ATTR_MASK_FLAGS | IBV_CQ_INIT_ATTR_MASK_PD;
  constexpr std::uint32_t known_flags =
      IBV_CREATE_CQ_ATTR_SINGLE_THREADED | IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN;
  const std::uint32_t flags = init.comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS ? init.flags : 0;
  if ((init.comp_mask & ~known) || (flags & ~known_flags) || (init.wc_flags & ~readable_fields))
    return refuse<ibv_cq_ex>(EOPNOTSUPP);
  if (init.cqe > max_completions || init.comp_vector != 0) return refuse<ibv_cq_ex>(EINVAL);
  ibv_cq* const cq = create_cq(static_cast<int>(init.cqe), init.cq_context, init.channel, 0);
  if (!cq) return nullptr;
  auto& queue = *static_cast<CompletionQueue*>(cq);
  const std::lock_guard guard(node_.mutex());  // the agent may look at it already
  queue.extend(init.wc_flags, flags & IBV_CREATE_CQ_ATTR_SINGLE_THREADED);
  return &queue.face();
}

int SoftDevice::resize_cq(ibv_cq* cq, int entries) {
  if (entries < 1 || entries > max_completions) return EINVAL;
  if (node_.fails_call()) return ENOMEM;
  return static_cast<CompletionQueue*>(cq)->resize(entries);
}

// Waits until every fetched event has been acknowledged, as ibv_destroy_cq(3) says.
int SoftDevice::destroy_cq(ibv_cq* verbs) {
  auto* cq = static_cast<CompletionQueue*>(verbs);
  {
    const std::lock_guard guard(node_.mutex());
    if (cq->users != 0) return EBUSY;
  }
  timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  constexpr int bound_s = 10;
  deadline.tv_sec += bound_s;
  int waited = 0;
  pthread_mutex_lock(&cq->mutex);
  while (cq->comp_events_completed != cq->events_delivered && waited == 0) {
    waited = pthread_cond_timedwait(&cq->cond, &cq->mutex, &deadline);
  }
  pthread_mutex_unlock(&cq->mutex);
  if (waited != 0) return EBUSY;
  const std::lock_guard guard(node_.mutex());
  node_.remove_queue(*cq);
  return 0;
}

// ---- Shared receive queues ----

ibv_srq* SoftDevice::create_srq(ibv_pd* pd, ibv_srq_init_attr& init) {
  if (init.attr.max_wr < 1 || init.attr.max_wr > max_work_requests || init.attr.max_sge > max_gather) {
    return refuse<ibv_srq>(EINVAL);
  }
  if (node_.fails_call()) return refuse<ibv_srq>(ENOMEM);
  auto* srq = new SharedReceiveQueue(node_, init.attr.max_wr, std::max(init.attr.max_sge, 1u));
  srq->context = context();
  srq->srq_context = init.srq_context;
  srq->pd = pd;
  init.attr.max_wr = srq->queue.depth();
  init.attr.max_sge = srq->queue.gather();
  ++static_cast<ProtectionDomain*>(pd)->users;
  return srq;
}

int SoftDevice::modify_srq(ibv_srq* verbs, ibv_srq_attr& attr, int mask) {
  auto* srq = static_cast<SharedReceiveQueue*>(verbs);
  if (mask & IBV_SRQ_MAX_WR) return EOPNOTSUPP;
  if (mask & IBV_SRQ_LIMIT) {
    if (attr.srq_limit > srq->queue.depth()) return EINVAL;
    srq->limit = attr.srq_limit;
  }
  return 0;
}

int SoftDevice::query_srq(ibv_srq* verbs, ibv_srq_attr& attr) {
  auto* srq = static_cast<SharedReceiveQueue*>(verbs);
  attr = {srq->queue.depth(), srq->queue.gather(), srq->limit};
  return 0;
}

int SoftDevice::destroy_srq(ibv_srq* verbs) {
  auto* srq = static_cast<SharedReceiveQueue*>(verbs);
  const std::lock_guard guard(node_.mutex());
  if (srq->has_users()) return EBUSY;
  if (srq->xrc_space) {
    node_.withdraw_receive_queue(*srq);
    srq->xrc_space->remove(*srq);
    --srq->completions->users;
  }
  node_.events().forget(verbs);
  --static_cast<ProtectionDomain*>(srq->pd)->users;
  delete srq;
  return 0;
}

}  // namespace soft

std::unique_ptr<Device> open_soft_device(PeerDeath death) {
  return std::make_unique<soft::SoftDevice>(soft::FaultPlan::from_environment(), death);
}

std::unique_ptr<Device> open_soft_device(const soft::FaultPlan& plan) {
  return std::make_unique<soft::SoftDevice>(plan, PeerDeath::at_once);
}

ibv_device& soft_device_entry() noexcept {
  // Other libraries look behind a device for what they have put there themselves: zeros say "not mine".
  struct Entry {
    ibv_device device;
    std::byte behind[4096];
  };
  static Entry entry = [] {
    Entry made{};
    made.device.node_type = IBV_NODE_CA;
    made.device.transport_type = IBV_TRANSPORT_IB;
    std::strcpy(made.device.name, "soft0");
    std::strcpy(made.device.dev_name, "uverbs-soft0");
    return made;
  }();
  return entry.device;
}

__be64 soft_device_guid() noexcept {
  ibv_device_attr attr;
  soft::describe_device(attr);
  return attr.node_guid;
}

Device* soft_device_of(const ibv_context* context) noexcept {
  if (!context || context->device != &soft_device_entry()) return nullptr;
  const verbs_context* const slots = verbs_get_ctx(const_cast<ibv_context*>(context));
  return static_cast<const soft::OpenContext*>(slots)->device;
}

}  // namespace verbena::core
