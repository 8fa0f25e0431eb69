// SPDX-License-Identifier: Apache-2.0
// Taking memory back from peers: waiting for their accesses and, where one can't be waited for, keeping its
// late copy from our memory.
//
// A peer may be stopped (SIGSTOP, a debugger) at any instruction between its key check and the end of its
// copy. When it goes on, after we have given the memory to somebody else, the rest of the copy must hit
// nothing:
//  - a write by process_vm_writev names our guard page first, which we have made inaccessible: EFAULT
//  (Link::guard);
//  - a write through a mapping lands in pages of the shared file, under which we have put fresh ones.
// A late read changes nothing here, and the reader throws its bytes away (QueuePair::still_granted).
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "core/soft/agent.h"
#include "core/soft/completion_queue.h"
#include "core/soft/context.h"

namespace verbena::core::soft {
namespace {

/// Every completion queue's lock: nothing of ours posts, polls or makes progress.
class AllPaused {
 public:
  explicit AllPaused(const auto& queues) {
    for (const auto& cq : queues) {
      if (cq) queues_.push_back(cq.get());
    }
    std::ranges::sort(queues_);
    for (CompletionQueue* cq : queues_) cq->lock.lock();
  }
  ~AllPaused() {
    for (CompletionQueue* cq : queues_) cq->lock.unlock();
  }
  AllPaused(const AllPaused&) = delete;
  AllPaused& operator=(const AllPaused&) = delete;

 private:
  std::vector<CompletionQueue*> queues_;
};

}  // namespace

bool Context::await_accesses(std::uint32_t key, bool loans) {
  heavy_fence();  // the withdrawn key, then the hazards
  bool withdrawn = true;
  for (QueuePair* qp : queue_pairs_) {
    // A thread of ours serves a request: it finishes, whatever the peer does.
    while (qp->own_hazard.load(std::memory_order_acquire) == key) ::sched_yield();
    using enum QueuePair::Parting;
    const auto parting = qp->parting.load(std::memory_order_acquire);
    if (!qp->link.in || !qp->link.peer || parting == sealing || parting == over) continue;
    const auto touching = [&] {
      return (loans && qp->is_borrowed(key)) ||
             std::ranges::any_of(qp->link.in->hazard, [&](const auto& hazard) {
               return hazard.load(std::memory_order_acquire) == key;
             });
    };
    if (await_withdrawal(touching, *qp->link.peer)) {
      order_acquired_by(qp->qp_num);
      continue;
    }
    {
      const BothSides locked(*qp);
      qp->link.gave_up.store(true, std::memory_order_relaxed);  // as in QueuePair::await_peer
      qp->change_state(IBV_QPS_ERR);
    }
    if (!seal(*qp)) withdrawn = false;
  }
  return withdrawn;
}

bool Context::evict(QueuePair& qp, const Loan& loan) {
  if (!qp.link.peer || qp.link.peer->gone.load(std::memory_order_acquire) || !qp.is_borrowed(loan))
    return true;
  {
    const BothSides locked(qp);
    qp.link.gave_up.store(true, std::memory_order_relaxed);  // as in QueuePair::await_peer
    qp.change_state(IBV_QPS_ERR);
  }
  seal(qp);  // if it can't be now, the agent tries again
  MemoryRegion* const region = shared_region_of(loan.key);
  return !region || replace_pages(*region);
}

void Context::part(QueuePair& qp) {
  if (!qp.link.in) return;
  {
    const BothSides locked(qp);
    qp.enter_error();
  }
  constexpr int tries = 10;
  for (int i = 0; i < tries && !seal(qp); ++i) ::sched_yield();
}

void Context::ask_to_seal() noexcept {
  seal_wanted_.store(true, std::memory_order_release);
  agent_->kick();
}

void Context::seal_all() {
  if (!seal_wanted_.exchange(false, std::memory_order_acquire)) return;
  for (QueuePair* qp : queue_pairs_) seal(*qp);
}

// The mutex is held: the link stays. No completion queue's lock is: sealing waits, and pauses them all.
bool Context::seal(QueuePair& qp) {
  using enum QueuePair::Parting;
  auto before = unsealed;
  if (!qp.parting.compare_exchange_strong(before, sealing)) return before != waiting;
  if (close_off(qp.link)) {
    const BothSides locked(qp);
    qp.go_on_sealed();
    return true;
  }
  qp.parting.store(unsealed, std::memory_order_release);
  seal_wanted_.store(true, std::memory_order_relaxed);  // the agent tries again
  return false;
}

bool Context::close_off(Link& link) {
  link.guard_closed = true;
  if (::mprotect(link.guard.get(), link.guard.size(), PROT_NONE) != 0) return false;
  // What has passed the guard before is in the kernel: it ends soon, or is seen not to.
  KernelCopies copies(link.peer->pid);
  const auto hazard = [&] {
    return link.in->hazard[static_cast<int>(Role::requester)].load(std::memory_order_acquire);
  };
  if (!await_withdrawal([&] { return hazard() != 0 && !copies.all_ended(); }, *link.peer)) return false;
  // The hazard is the peer's word: a wrong one costs a region its mapping, no more.
  MemoryRegion* region = shared_region_of(static_cast<std::uint32_t>(hazard()));
  return !region || link.peer->gone.load(std::memory_order_acquire) || replace_pages(*region);
}

// The region that a key, of itself or of a window on it, makes peers reach through a mapping; null if there
// is none.
MemoryRegion* Context::shared_region_of(std::uint32_t key) {
  if (key == 0) return nullptr;
  const MemoryRegion* wanted = nullptr;
  if (const MemoryWindow* window = keys_->window(key)) wanted = window->parent.load();
  const auto found = std::ranges::find_if(
      shared_regions_, [&](const MemoryRegion* region) { return region == wanted || region->lkey == key; });
  return found != shared_regions_.end() && !(*found)->replaced ? *found : nullptr;
}

// Puts fresh pages with the same content under a region of shared memory. Stores that the user's other
// threads make to it meanwhile may be lost; our own are kept away by their locks. False if the system
// refuses.
bool Context::replace_pages(MemoryRegion& region) {
  const std::uint64_t begin = region.grant.address & ~std::uint64_t{page_size - 1};
  const std::uint64_t end =
      (region.grant.address + region.grant.length + page_size - 1) & ~std::uint64_t{page_size - 1};
  const auto file = shared_.find(region.shared_file);
  std::vector<MemoryRegion*> touched;
  std::ranges::copy_if(shared_regions_, std::back_inserter(touched), [&](const MemoryRegion* other) {
    return other->grant.address < end && other->grant.address + other->grant.length > begin;
  });
  {
    const AllPaused paused(queues_);  // windows that are bound from now on are private
    for (MemoryRegion* other : touched) other->grant.memory = 0;
  }
  // Whatever peers reach through a mapping of these pages they must reach without it from now on.
  for (MemoryRegion* other : touched) {
    std::vector<std::uint32_t> keys = keys_->windows_of(*other);
    keys.push_back(other->lkey);
    for (const std::uint32_t key : keys) keys_->make_private(key);
    for (const std::uint32_t key : keys) {
      if (!await_accesses(key, false)) return false;  // who reads a loan goes on with the old pages
    }
  }
  const std::size_t length = end - begin;
  void* fresh = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) return false;
  {
    const AllPaused paused(queues_);
    auto* old = reinterpret_cast<void*>(begin);
    std::memcpy(fresh, old, length);
    if (::mremap(fresh, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, old) == MAP_FAILED) {
      ::munmap(fresh, length);
      return false;
    }
  }
  for (MemoryRegion* other : touched) other->replaced = true;
  replaced_.push_back({begin, end, file == shared_.end() ? 0 : file->second.inode});
  return true;
}

bool Context::was_replaced(const SharedRange& range) const noexcept {
  struct stat status {};
  if (::fstat(range.fd, &status) != 0) return false;
  const auto begin = reinterpret_cast<std::uint64_t>(range.address);
  return std::ranges::any_of(replaced_, [&](const Replaced& pages) {
    return pages.inode == status.st_ino && begin < pages.end && pages.begin < begin + range.length;
  });
}

void Context::keep_for_borrowers(const std::shared_ptr<const Mapping>& mapping) {
  for (QueuePair* qp : queue_pairs_) {
    const std::lock_guard guard(qp->send_completions().lock);
    qp->keep_while_borrowed(mapping);
  }
}

void Context::pause_all() noexcept {
  for (const auto& cq : queues_) {
    if (!cq) continue;
    cq->lock.lock();
    cq->lock.unlock();
  }
}

}  // namespace verbena::core::soft
