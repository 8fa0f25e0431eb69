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

// ---- Protection domains and memory ----

ibv_pd* SoftDevice::alloc_pd() {
  if (node_.fails_call()) return refuse<ibv_pd>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  std::uint16_t number = 1;
  for (const std::uint16_t used : domains_) {
    if (used != number) break;
    if (++number == 0) return refuse<ibv_pd>(ENOMEM);
  }
  domains_.insert(number);
  auto* pd = new ProtectionDomain;
  pd->context = context();
  pd->number = number;
  pd->handle = number;
  return pd;
}

int SoftDevice::dealloc_pd(ibv_pd* verbs) {
  auto* pd = static_cast<ProtectionDomain*>(verbs);
  const std::lock_guard guard(node_.mutex());
  if (pd->users != 0) return EBUSY;
  if (pd->original) {
    --pd->original->users;
    if (pd->thread) --pd->thread->users;
  } else {
    domains_.erase(pd->number);
  }
  delete pd;
  return 0;
}

// Says that its objects are one thread's. soft0's locks are biased towards whoever uses them anyway.
ibv_td* SoftDevice::alloc_td(const ibv_td_init_attr& init) {
  if (init.comp_mask != 0) return refuse<ibv_td>(EINVAL);
  if (node_.fails_call()) return refuse<ibv_td>(ENOMEM);
  auto* td = new ThreadDomain;
  td->context = context();
  return td;
}

int SoftDevice::dealloc_td(ibv_td* verbs) {
  auto* td = static_cast<ThreadDomain*>(verbs);
  const std::lock_guard guard(node_.mutex());
  if (td->users != 0) return EBUSY;
  delete td;
  return 0;
}

ibv_pd* SoftDevice::alloc_parent_domain(const ibv_parent_domain_init_attr& init) {
  if (!init.pd) return refuse<ibv_pd>(EINVAL);
  if (init.comp_mask != 0)
    return refuse<ibv_pd>(EOPNOTSUPP);  // the program's allocators: none is called here
  if (node_.fails_call()) return refuse<ibv_pd>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  auto* pd = new ProtectionDomain;
  pd->context = context();
  pd->original = static_cast<ProtectionDomain*>(init.pd);
  pd->thread = static_cast<ThreadDomain*>(init.td);
  pd->number = pd->original->number;
  pd->handle = pd->number;
  ++pd->original->users;
  if (pd->thread) ++pd->thread->users;
  return pd;
}

namespace {

/// 0, EINVAL or EOPNOTSUPP.
int check_region(std::uint64_t begin, std::size_t length, int access) {
  constexpr int known = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                        IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND | IBV_ACCESS_RELAXED_ORDERING;
  constexpr int remote_changes = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
  if (access & ~known) return EOPNOTSUPP;
  if ((access & remote_changes) && !(access & IBV_ACCESS_LOCAL_WRITE)) return EINVAL;
  return begin + length < begin ? EINVAL : 0;
}

}  // namespace

ibv_mr* SoftDevice::reg(ibv_pd* verbs, void* address, std::size_t length, int access,
                        const SharedRange* shared) {
  const auto begin = reinterpret_cast<std::uint64_t>(address);
  if (const int error = check_region(begin, length, access)) return refuse<ibv_mr>(error);
  if (node_.fails_call()) return refuse<ibv_mr>(ENOMEM);
  auto* pd = static_cast<ProtectionDomain*>(verbs);
  const std::lock_guard guard(node_.mutex());
  KeyGrant grant{begin, length, static_cast<unsigned>(access) & 0xff, pd->number};
  if (shared && !node_.was_replaced(*shared)) {
    grant.memory = node_.share(*shared);
    grant.memory_offset = shared->offset;
    if (grant.memory == 0) return nullptr;  // errno from the system
  }
  const std::uint32_t key = node_.keys().reserve();
  if (key == 0) {
    if (grant.memory) node_.unshare(grant.memory);
    return refuse<ibv_mr>(ENOMEM);
  }
  auto* mr = new MemoryRegion;
  mr->context = context();
  mr->pd = pd;
  mr->addr = address;
  mr->length = length;
  mr->handle = mr->lkey = mr->rkey = key;
  mr->grant = grant;
  mr->shared_file = grant.memory;
  ++pd->users;
  if (grant.memory) node_.shared_regions().push_back(mr);
  node_.keys().publish(key, grant);
  return mr;
}

ibv_mr* SoftDevice::reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) {
  return reg(pd, address, length, access, nullptr);
}

// The plain region's key stays for what happens here; peers, and the program, get two others.
ibv_mr* SoftDevice::reg_mr_iova(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova,
                                int access) {
  if (iova == reinterpret_cast<std::uint64_t>(address)) return reg_mr(pd, address, length, access);
  if (iova + length < iova) return refuse<ibv_mr>(EINVAL);
  ibv_mr* const verbs = reg(pd, address, length, access, nullptr);
  if (!verbs) return nullptr;
  auto* mr = static_cast<MemoryRegion*>(verbs);
  const std::lock_guard guard(node_.mutex());
  KeyTable& keys = node_.keys();
  const std::uint32_t lkey = keys.reserve();
  const std::uint32_t rkey = lkey == 0 ? 0 : keys.reserve();
  if (rkey == 0) {
    if (lkey != 0) keys.release(lkey);
    keys.withdraw(mr->lkey);
    keys.release(mr->lkey);
    --static_cast<ProtectionDomain*>(pd)->users;
    delete mr;
    return refuse<ibv_mr>(ENOMEM);
  }
  mr->local_key = mr->lkey;
  KeyGrant grant = mr->grant;
  keys.withdraw(mr->local_key);  // nobody knows it yet
  grant.access &= IBV_ACCESS_LOCAL_WRITE;
  keys.publish(mr->local_key, grant);
  mr->grant.address = iova;
  mr->grant.displacement = reinterpret_cast<std::uint64_t>(address) - iova;
  mr->lkey = lkey;
  mr->rkey = rkey;
  keys.rename(lkey, {iova, length, mr->grant.displacement, mr->local_key});
  keys.publish(rkey, mr->grant);
  return mr;
}

ibv_mr* SoftDevice::alloc_null_mr(ibv_pd* pd) {
  if (node_.fails_call()) return refuse<ibv_mr>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  if (!null_memory_.open()) return refuse<ibv_mr>(ENOMEM);
  KeyTable& keys = node_.keys();
  std::array<std::uint32_t, 3> reserved{};
  for (std::uint32_t& key : reserved) key = keys.reserve();
  if (reserved.back() == 0) {
    for (const std::uint32_t key : reserved) {
      if (key != 0) keys.release(key);
    }
    return refuse<ibv_mr>(ENOMEM);
  }
  auto* mr = new MemoryRegion;
  mr->context = context();
  mr->pd = pd;
  mr->handle = mr->lkey = mr->rkey = reserved[0];  // which opens nothing to peers
  mr->local_key = reserved[1];
  mr->sink_key = reserved[2];
  ++static_cast<ProtectionDomain*>(pd)->users;
  const auto zeros = reinterpret_cast<std::uint64_t>(null_memory_.zeros());
  const auto sink = reinterpret_cast<std::uint64_t>(null_memory_.sink());
  keys.publish(mr->local_key, {zeros, NullMemory::span, 0, domain_number(pd)});
  keys.publish(mr->sink_key, {sink, NullMemory::span, IBV_ACCESS_LOCAL_WRITE, domain_number(pd)});
  keys.rename(mr->lkey, {0, 0, 0, mr->local_key, zeros, sink, mr->sink_key});
  return mr;
}

ibv_mr* SoftDevice::reg_shared_mr(ibv_pd* pd, const SharedRange& range, int access) {
  return reg(pd, range.address, range.length, access, &range);
}

// As deregistering and registering in one, under the next keys: who knows the old ones finds nothing under
// them.
int SoftDevice::rereg_mr(ibv_mr* verbs, int flags, ibv_pd* pd, void* address, std::size_t length,
                         int access) {
  const auto refuse_input = [](int error) {
    errno = error;
    return static_cast<int>(IBV_REREG_MR_ERR_INPUT);  // the region is what it was
  };
  auto* mr = static_cast<MemoryRegion*>(verbs);
  const bool moves = flags & IBV_REREG_MR_CHANGE_TRANSLATION;
  const bool changes_domain = flags & IBV_REREG_MR_CHANGE_PD;
  const bool changes_access = flags & IBV_REREG_MR_CHANGE_ACCESS;
  if ((flags & ~int{IBV_REREG_MR_FLAGS_SUPPORTED}) || (moves && (!address || length == 0)) ||
      (changes_domain && !pd))
    return refuse_input(EINVAL);
  const std::lock_guard guard(node_.mutex());
  KeyGrant grant = mr->grant;
  if (moves) {
    grant.address = reinterpret_cast<std::uint64_t>(address);
    grant.length = length;
    grant.memory = 0;  // where it lies in a shared file only reg_shared_mr is told
    grant.memory_offset = 0;
  }
  if (changes_access) grant.access = static_cast<unsigned>(access) & 0xff;
  if (changes_domain) grant.domain = domain_number(pd);
  if (const int error =
          check_region(grant.address, grant.length, changes_access ? access : static_cast<int>(grant.access)))
    return refuse_input(error);
  if (mr->windows != 0) return refuse_input(EBUSY);
  if (mr->local_key != 0) return refuse_input(EOPNOTSUPP);  // there is no word for its new iova
  if (node_.fails_call()) return refuse_input(ENOMEM);
  node_.keys().withdraw(mr->lkey);
  node_.pause_all();  // as in dereg_mr
  if (!node_.await_accesses(mr->lkey)) {
    node_.keys().publish(mr->lkey, mr->grant);
    return refuse_input(EBUSY);
  }
  if (moves && std::erase(node_.shared_regions(), mr)) {
    node_.unshare(mr->shared_file);
    mr->shared_file = 0;
  }
  if (changes_domain) {
    --static_cast<ProtectionDomain*>(mr->pd)->users;
    ++static_cast<ProtectionDomain*>(pd)->users;
    mr->pd = pd;
  }
  if (moves) {
    mr->addr = address;
    mr->length = length;
  }
  mr->grant = grant;
  mr->lkey = mr->rkey = next_generation(mr->lkey);
  node_.keys().publish(mr->lkey, grant);
  return 0;
}

int SoftDevice::dereg_mr(ibv_mr* verbs) {
  auto* mr = static_cast<MemoryRegion*>(verbs);
  const std::lock_guard guard(node_.mutex());
  if (mr->windows != 0) return EBUSY;
  // One key, as nearly always; or those of a renamed or a null region.
  std::array<std::uint32_t, 4> all{mr->lkey, mr->rkey == mr->lkey ? 0 : mr->rkey, mr->local_key,
                                   mr->sink_key};
  const std::span<std::uint32_t> used(all.begin(), std::remove(all.begin(), all.end(), 0u));
  KeyTable& keys = node_.keys();
  for (const std::uint32_t key : used) keys.withdraw(key);
  node_.pause_all();  // what we ourselves do for posted requests, a receive's filling say, is under these
                      // locks
  for (const std::uint32_t key : used) {
    if (!node_.await_accesses(key)) return EBUSY;
  }
  if (mr->local_key != 0) keys.forget_renamed(mr->lkey);
  for (const std::uint32_t key : used) keys.release(key);
  if (std::erase(node_.shared_regions(), mr)) node_.unshare(mr->shared_file);
  --static_cast<ProtectionDomain*>(mr->pd)->users;
  delete mr;
  return 0;
}

ibv_mw* SoftDevice::alloc_mw(ibv_pd* pd, ibv_mw_type type) {
  if (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2) return refuse<ibv_mw>(EINVAL);
  if (node_.fails_call()) return refuse<ibv_mw>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  const std::uint32_t key = node_.keys().reserve();
  if (key == 0) return refuse<ibv_mw>(ENOMEM);
  auto* mw = new MemoryWindow;
  mw->context = context();
  mw->pd = pd;
  mw->rkey = mw->handle = key;
  mw->type = type;
  node_.keys().remember_window(key, *mw);
  ++static_cast<ProtectionDomain*>(pd)->users;
  return mw;
}

// A type-1 window. What it was bound to before is taken back here, as there may be accesses to wait for; the
// new binding takes effect in its turn of the send queue.
int SoftDevice::bind_mw(ibv_qp* qp, ibv_mw* verbs, const ibv_mw_bind& bind) {
  auto* mw = static_cast<MemoryWindow*>(verbs);
  {
    const std::lock_guard guard(node_.mutex());
    if (mw->parent.load(std::memory_order_acquire)) {
      node_.keys().withdraw(mw->rkey);
      if (!node_.await_accesses(mw->rkey)) return EBUSY;
      --mw->parent.exchange(nullptr)->windows;
    }
  }
  ibv_send_wr request{};
  request.wr_id = bind.wr_id;
  request.opcode = IBV_WR_BIND_MW;
  request.send_flags = bind.send_flags | by_bind_verb;
  request.bind_mw = {mw, ibv_inc_rkey(mw->rkey), bind.bind_info};
  ibv_send_wr* bad = nullptr;
  const int error = context()->ops.post_send(qp, &request, &bad);
  if (error == 0) mw->rkey = request.bind_mw.rkey;
  return error;
}

int SoftDevice::dealloc_mw(ibv_mw* verbs) {
  auto* mw = static_cast<MemoryWindow*>(verbs);
  const std::lock_guard guard(node_.mutex());
  node_.keys().withdraw(mw->rkey);
  if (!node_.await_accesses(mw->rkey)) return EBUSY;
  if (MemoryRegion* region = mw->parent.exchange(nullptr)) --region->windows;
  node_.keys().release(mw->rkey);
  --static_cast<ProtectionDomain*>(mw->pd)->users;
  delete mw;
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

// ---- Queue pairs ----

ibv_qp* SoftDevice::create_qp(ibv_pd* pd, ibv_qp_init_attr& init) {
  if (init.qp_type == IBV_QPT_XRC_SEND) {  // its own word is all that ever comes in
    init.recv_cq = init.send_cq;
    init.srq = nullptr;
    init.cap.max_recv_wr = init.cap.max_recv_sge = 0;
  } else if (init.qp_type != IBV_QPT_RC && init.qp_type != IBV_QPT_UC && init.qp_type != IBV_QPT_UD) {
    return refuse<ibv_qp>(EOPNOTSUPP);
  }
  const ibv_qp_cap& cap = init.cap;
  if (!init.send_cq || !init.recv_cq || cap.max_send_wr > max_work_requests ||
      cap.max_recv_wr > max_work_requests || cap.max_send_sge > max_gather || cap.max_recv_sge > max_gather ||
      cap.max_inline_data > max_inline) {
    return refuse<ibv_qp>(EINVAL);
  }
  if (init.srq && static_cast<SharedReceiveQueue*>(init.srq)->xrc_space)
    return refuse<ibv_qp>(EINVAL);  // only who is named with each message takes from it
  if (node_.fails_call()) return refuse<ibv_qp>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  if (init.qp_type == IBV_QPT_XRC_SEND) node_.expect_xrc();
  return make_queue_pair(pd, init);
}

QueuePair* SoftDevice::make_queue_pair(ibv_pd* pd, ibv_qp_init_attr& init) {
  ibv_qp_cap& cap = init.cap;
  std::unique_ptr<DatagramPort> port;
  const std::uint32_t number =
      init.qp_type == IBV_QPT_UD ? node_.claim_datagram_port(port) : node_.claim_queue_pair();
  if (number == 0) return nullptr;  // errno says why
  auto* qp = new QueuePair(node_, pd, number, init);
  qp->datagrams = std::move(port);
  cap.max_send_wr = qp->sends.depth();
  cap.max_send_sge = qp->sends.gather();
  if (!init.srq) {
    cap.max_recv_wr = qp->receives.depth();
    cap.max_recv_sge = qp->receives.gather();
  }
  qp->capacities = cap;
  ++qp->domain.users;
  ++qp->send_completions().users;
  ++qp->receive_completions().users;
  if (qp->shared_receives) qp->shared_receives->add_user(qp->receive_completions());
  node_.add(*qp);
  return qp;
}

ibv_qp* SoftDevice::create_qp_ex(ibv_qp_init_attr_ex& init) {
  if (init.qp_type == IBV_QPT_XRC_RECV) return create_xrc_receiver(init);
  constexpr std::uint32_t known =
      IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_CREATE_FLAGS | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  const std::uint64_t operations = init.comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS ? init.send_ops_flags : 0;
  if ((init.comp_mask & ~known) ||
      ((init.comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) && init.create_flags != 0) ||
      (operations & ~buildable_operations(init.qp_type))) {
    return refuse<ibv_qp>(EOPNOTSUPP);
  }
  if (!(init.comp_mask & IBV_QP_INIT_ATTR_PD)) return refuse<ibv_qp>(EINVAL);
  ibv_qp_init_attr plain{init.qp_context, init.send_cq, init.recv_cq,   init.srq,
                         init.cap,        init.qp_type, init.sq_sig_all};
  ibv_qp* const qp = create_qp(init.pd, plain);
  if (!qp) return nullptr;
  init.cap = plain.cap;
  if (init.comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) {
    auto& made = *static_cast<QueuePair*>(qp);
    made.batch = std::make_unique<WorkBatch>(made, operations);
  }
  return qp;
}

namespace {

int check_values(const ibv_qp_attr& attr, int mask) {
  if ((mask & IBV_QP_PORT) && attr.port_num != 1) return EINVAL;
  if ((mask & IBV_QP_PKEY_INDEX) && attr.pkey_index != 0) return EINVAL;
  if ((mask & IBV_QP_PATH_MTU) && (attr.path_mtu < IBV_MTU_256 || attr.path_mtu > IBV_MTU_4096))
    return EINVAL;
  if ((mask & IBV_QP_TIMEOUT) && attr.timeout > 31) return EINVAL;
  if ((mask & IBV_QP_RETRY_CNT) && attr.retry_cnt > 7) return EINVAL;
  if ((mask & IBV_QP_RNR_RETRY) && attr.rnr_retry > 7) return EINVAL;
  if ((mask & IBV_QP_MIN_RNR_TIMER) && attr.min_rnr_timer > 31) return EINVAL;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) && attr.max_rd_atomic > max_reads) return EINVAL;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) && attr.max_dest_rd_atomic > max_reads) return EINVAL;
  if ((mask & IBV_QP_DEST_QPN) && attr.dest_qp_num >= 1u << 24) return EINVAL;
  return 0;
}

void copy_values(ibv_qp_attr& to, const ibv_qp_attr& from, int mask) {
  if (mask & IBV_QP_ACCESS_FLAGS) to.qp_access_flags = from.qp_access_flags;
  if (mask & IBV_QP_PKEY_INDEX) to.pkey_index = from.pkey_index;
  if (mask & IBV_QP_PORT) to.port_num = from.port_num;
  if (mask & IBV_QP_QKEY) to.qkey = from.qkey;
  if (mask & IBV_QP_AV) to.ah_attr = from.ah_attr;
  if (mask & IBV_QP_PATH_MTU) to.path_mtu = from.path_mtu;
  if (mask & IBV_QP_TIMEOUT) to.timeout = from.timeout;
  if (mask & IBV_QP_RETRY_CNT) to.retry_cnt = from.retry_cnt;
  if (mask & IBV_QP_RNR_RETRY) to.rnr_retry = from.rnr_retry;
  if (mask & IBV_QP_RQ_PSN) to.rq_psn = from.rq_psn;
  if (mask & IBV_QP_SQ_PSN) to.sq_psn = from.sq_psn;
  if (mask & IBV_QP_MAX_QP_RD_ATOMIC) to.max_rd_atomic = from.max_rd_atomic;
  if (mask & IBV_QP_MAX_DEST_RD_ATOMIC) to.max_dest_rd_atomic = from.max_dest_rd_atomic;
  if (mask & IBV_QP_MIN_RNR_TIMER) to.min_rnr_timer = from.min_rnr_timer;
  if (mask & IBV_QP_DEST_QPN) to.dest_qp_num = from.dest_qp_num;
}

/// Programs give both halves of an XRC connection all attributes of a reliable one; the kernel drops what a
/// half has no use for, and so is it here.
int own_attributes(ibv_qp_type type, int mask) {
  if (type == IBV_QPT_XRC_SEND) return mask & ~(IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (type == IBV_QPT_XRC_RECV)
    return mask & ~(IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY);
  return mask;
}

}  // namespace

int SoftDevice::modify_qp(ibv_qp* verbs, ibv_qp_attr& attr, int given) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  const int mask = own_attributes(qp.qp_type, given);
  const std::lock_guard guard(node_.mutex());
  const ibv_qp_state from = qp.current_state();
  const ibv_qp_state to = mask & IBV_QP_STATE ? attr.qp_state : from;
  if ((mask & IBV_QP_CUR_STATE) && attr.cur_qp_state != from) return EINVAL;
  if (const int error = check_transition(qp.qp_type, from, to, mask)) return error;
  if (const int error = check_values(attr, mask)) return error;
  const bool opens = from == IBV_QPS_INIT && to == IBV_QPS_RTR;
  if ((mask & IBV_QP_AV) && attr.ah_attr.is_global && !gid_at(attr.ah_attr.grh.sgid_index)) return EINVAL;
  if (opens && node_.fails_call()) return ENOMEM;
  if (to == IBV_QPS_RESET) node_.part(qp);
  {
    const BothSides locked(qp);
    if (to == IBV_QPS_RESET) qp.enter_reset();
    copy_values(qp.attributes, attr, mask);
    if ((mask & IBV_QP_ACCESS_FLAGS) && qp.link.in) {
      qp.link.in->access.store(qp.attributes.qp_access_flags, std::memory_order_relaxed);
    }
    if ((mask & IBV_QP_RNR_RETRY) && qp.link.out) {
      qp.link.out->not_ready_retries.store(qp.attributes.rnr_retry, std::memory_order_relaxed);
    }
    if (to != from && to != IBV_QPS_RESET && !opens) qp.change_state(to);
  }
  if (to == IBV_QPS_ERR) node_.seal(qp);  // if it must be and can't be now, the agent tries again
  if (!opens) return 0;
  {
    const BothSides locked(qp);  // before the link: the peer's first entry may come at once
    qp.change_state(to);
  }
  if (qp.datagrams) {
    const BothSides locked(qp);
    qp.receive_completions().add_backlog(qp);
    return 0;
  }
  const bool reachable = !attr.ah_attr.is_global || is_gid_of_this_host(attr.ah_attr.grh.dgid);
  const int error = node_.open_link(qp, reachable ? attr.dest_qp_num : 0);
  if (error != 0) {
    const BothSides locked(qp);
    qp.enter_reset();
  }
  return error;
}

int SoftDevice::query_qp(ibv_qp* verbs, ibv_qp_attr& attr, int, ibv_qp_init_attr& init) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  const std::lock_guard guard(node_.mutex());
  attr = qp.attributes;
  attr.qp_state = attr.cur_qp_state = qp.current_state();
  attr.cap = qp.capacities;
  init = {};
  init.qp_context = qp.qp_context;
  const bool has_own_queues = qp.qp_type != IBV_QPT_XRC_RECV;
  init.send_cq = has_own_queues ? qp.send_cq : nullptr;
  init.recv_cq = has_own_queues && qp.qp_type != IBV_QPT_XRC_SEND ? qp.recv_cq : nullptr;
  init.srq = qp.srq;
  init.cap = qp.capacities;
  init.qp_type = qp.qp_type;
  init.sq_sig_all = qp.signal_all;
  return 0;
}

int SoftDevice::attach_mcast(ibv_qp* verbs, const ibv_gid& group, std::uint16_t) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  if (!qp.datagrams || !is_multicast_gid(group)) return EINVAL;
  const std::lock_guard guard(node_.mutex());
  const BothSides locked(qp);
  const int error = qp.datagrams->join(group);
  if (error == 0) node_.watch_datagrams(*qp.datagrams);  // who sleeps already hears of the group, too
  return error;
}

int SoftDevice::detach_mcast(ibv_qp* verbs, const ibv_gid& group, std::uint16_t) {
  auto& qp = *static_cast<QueuePair*>(verbs);
  if (!qp.datagrams) return EINVAL;
  const std::lock_guard guard(node_.mutex());
  const BothSides locked(qp);
  return qp.datagrams->leave(group);
}

int SoftDevice::destroy_qp(ibv_qp* verbs) {
  auto* qp = static_cast<QueuePair*>(verbs);
  const std::lock_guard guard(node_.mutex());
  node_.part(*qp);
  node_.remove(*qp);
  --qp->domain.users;
  --qp->send_completions().users;
  --qp->receive_completions().users;
  if (qp->shared_receives) qp->shared_receives->remove_user();
  if (qp->xrc_space) qp->xrc_space->leave();
  delete qp;
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
