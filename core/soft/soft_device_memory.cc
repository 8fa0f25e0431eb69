// SPDX-License-Identifier: Apache-2.0
// soft0's verbs of memory: protection and thread domains, regions, windows.
#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "core/soft/device.h"

namespace verbena::core::soft {

// ---- Domains ----

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

// ---- Regions ----

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

// ---- Windows ----

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

}  // namespace verbena::core::soft
