// SPDX-License-Identifier: Apache-2.0
/// One opened soft0: this process's block of queue pair numbers, what it shares, whom it knows.
///
/// Locks, outermost first: `mutex()` (set-up, the agent), completion queues' locks (two in the order of their
/// address), then leaves: shared receive queues, channels, the key table, peers' memory lists, events.
#pragma once

#include <infiniband/verbs.h>

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/device.h"
#include "core/monotonic_ns.h"
#include "core/soft/completion_channel.h"
#include "core/soft/control.h"
#include "core/soft/fault_plan.h"
#include "core/soft/faults.h"
#include "core/soft/fence.h"
#include "core/soft/key_table.h"
#include "core/soft/layout.h"
#include "core/soft/peer_process.h"
#include "core/soft/peer_threads.h"
#include "core/soft/queue_pair.h"
#include "core/soft/shared_file.h"
#include "core/soft/soft_device.h"
#include "core/soft/trace.h"

namespace verbena::core::soft {

class Agent;
struct CompletionQueue;

/// False where the environment variable VERBENA_SOFT0_PROCESS_VM is "off": to try what a container that
/// forbids process_vm_readv does.
bool process_vm_allowed() noexcept;

/// Asynchronous events, behind a descriptor that epoll can wait for. Thread-safe; a leaf.
class EventQueue {
 public:
  EventQueue();
  int descriptor() const noexcept { return event_.get(); }
  void push(const ibv_async_event& event);
  /// 0; or -1 with errno (EAGAIN where the descriptor is non-blocking).
  int get(ibv_async_event& event);
  void forget(const void* element);

 private:
  Descriptor event_;
  std::mutex mutex_;
  std::deque<ibv_async_event> events_;
};

/// Both locks of a queue pair's completion queues, in the order of their address; the queue pair knows it.
class BothSides {
 public:
  explicit BothSides(QueuePair& qp) noexcept;
  ~BothSides();
  BothSides(const BothSides&) = delete;
  BothSides& operator=(const BothSides&) = delete;

 private:
  QueuePair& qp_;
  CompletionQueue* first_;
  CompletionQueue* second_;
};

/// What a program holds as an ibv_context: libibverbs' own inline functions look for slots in front of it.
struct OpenContext : verbs_context {
  Device* device = nullptr;
};

class Context {
 public:
  /// Throws Error with the reason when memory or a block can't be had.
  Context(Device& device, std::optional<FaultPlan> plan, PeerDeath death);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  ibv_context* verbs() noexcept { return &verbs_.context; }
  std::mutex& mutex() noexcept { return mutex_; }
  KeyTable& keys() noexcept { return *keys_; }
  EventQueue& events() noexcept { return events_; }
  /// Null where nothing is traced.
  Trace* trace() const noexcept { return trace_.get(); }
  /// Null where nothing is to go wrong.
  const FaultPlan* plan() const noexcept { return plan_ ? &*plan_ : nullptr; }
  Bell& bell(std::uint32_t completion_queue) noexcept;
  std::atomic<Armed>& armed_line(std::uint32_t completion_queue) noexcept {
    return table_->queues[completion_queue].armed;
  }
  QueuePair* queue_pair_at(std::uint32_t index, const CompletionQueue& receive_queue) noexcept;

  /// The XRC receive queue of that number; null where there is none. Under a completion queue's lock, and
  /// valid until that is given up: see withdraw_receive_queue.
  SharedReceiveQueue* receive_queue(std::uint32_t number) const noexcept {
    return number < xrc_receive_queues_.size() ? xrc_receive_queues_[number].load(std::memory_order_acquire)
                                               : nullptr;
  }

  // ---- Set-up; the caller holds mutex() ----
  /// Gives it a number; false: none is left.
  bool publish_receive_queue(SharedReceiveQueue& srq) noexcept;
  /// When this returns, nobody looks at it any more.
  void withdraw_receive_queue(SharedReceiveQueue& srq) noexcept;
  /// There will be XRC queue pairs: from now on posts ask for them.
  void expect_xrc() noexcept;
  std::uint32_t claim_queue_pair();  ///< a number; 0 with errno: all are in use
  /// The same with the port of that number; 0 with errno.
  std::uint32_t claim_datagram_port(std::unique_ptr<DatagramPort>& port);
  std::unique_ptr<Faults> next_faults();  ///< of the next queue pair; null without a plan
  void add(QueuePair& qp);
  void remove(QueuePair& qp);
  /// One that hasn't been removed; null: there is none.
  QueuePair* any_queue_pair() noexcept { return queue_pairs_.empty() ? nullptr : queue_pairs_.back(); }
  CompletionQueue* add_queue(int entries, void* cq_context, CompletionChannel* channel);
  void remove_queue(CompletionQueue& cq);
  /// Creates the queue pair's ring, offers it to the peer and takes the peer's offer if it has come.
  /// 0 or errno.
  int open_link(QueuePair& qp, std::uint32_t peer_number);
  void release_peer(PeerProcess* peer) noexcept;
  /// The id of a shared file, which peers may then ask for; 0 with errno.
  std::uint32_t share(const SharedRange& range);
  void unshare(std::uint32_t id);
  /// True when no peer, and no request of a peer, touches memory through the (withdrawn) key any more. One
  /// that is stopped in the middle of a copy, as by SIGSTOP, has lost its queue pair, and its late copy hits
  /// nothing. False if that can't be had now.
  bool await_accesses(std::uint32_t key, bool loans = true);
  /// See Lending::evict; the borrower has been recalled.
  bool evict(QueuePair& qp, const Loan& loan);
  /// Before a queue pair is reset or destroyed: its link is dead, and its peer touches nothing or is sealed
  /// off.
  void part(QueuePair& qp);
  /// Sees to it that nothing that a failed queue pair's peer has begun can reach our memory any more, though
  /// the peer can't be waited for. True if it is so; then the queue pair flushes.
  bool seal(QueuePair& qp);
  /// See QueuePair::keep_while_borrowed.
  void keep_for_borrowers(const std::shared_ptr<const Mapping>& mapping);
  /// Waits until every completion queue has been between two operations.
  void pause_all() noexcept;
  /// From any thread: some queue pair is `Parting::unsealed`.
  void ask_to_seal() noexcept;
  /// True if pages of the range no longer are those of its file.
  bool was_replaced(const SharedRange& range) const noexcept;
  std::vector<MemoryRegion*>& shared_regions() noexcept { return shared_regions_; }

  /// True for the set-up call that the plan fails. Any thread; counts the calls.
  bool fails_call() noexcept;
  /// Has the agent look when datagrams come: once, and not before they do.
  void watch_datagrams(const DatagramPort& port) noexcept;
  /// Tells a queue pair's completion queues, without their locks, that there is something to do.
  void hint(QueuePair& qp) noexcept;

 private:
  friend class Agent;
  struct Offer {
    PeerProcess* peer;
    Descriptor inbound;
    EventPointer receive_event;
    EventPointer send_event;
  };
  struct SharedFile {
    std::uint64_t inode;
    Descriptor file;
    std::uint32_t users;
    std::vector<int> mapped_by;  // connections that asked for it
  };
  struct Place {  // a queue pair's index
    std::atomic<QueuePair*> queue_pair{nullptr};
    std::atomic<const CompletionQueue*> receive_queue{nullptr};
  };
  void install_operations() noexcept;
  void install_slots() noexcept;
  void claim_block();
  void create_memory();
  PeerProcess* find_peer(std::uint32_t block) noexcept;
  PeerProcess* connect_peer(std::uint32_t block);
  void send_offer(QueuePair& qp);
  void attach(QueuePair& qp, Offer offer);
  void lose(PeerProcess& peer);
  /// Fails the queue pairs whose dead peer's time is over. True where some are still waiting for that.
  bool fail_bereaved();
  void discard_departed() noexcept;
  void seal_all();
  bool close_off(Link& link);
  bool replace_pages(MemoryRegion& region);
  MemoryRegion* shared_region_of(std::uint32_t key);

  const std::unique_ptr<Trace> trace_ = Trace::from_environment();
  const std::optional<FaultPlan> plan_;
  const PeerDeath death_;
  std::uint64_t faulty_queue_pairs_ = 0;        // so far
  std::atomic<std::uint64_t> set_up_calls_{0};  // counted where there is a plan
  OpenContext verbs_{};
  std::mutex mutex_;
  EventQueue events_;
  std::uint32_t block_ = 0;
  Descriptor listener_;
  Descriptor table_file_;
  Descriptor bell_file_;
  Mapping table_mapping_;
  Mapping bell_mapping_;
  PublicTable* table_ = nullptr;
  std::unique_ptr<KeyTable> keys_;
  std::unique_ptr<Place[]> places_;
  std::uint32_t next_index_ = 0;
  std::vector<QueuePair*> queue_pairs_;
  std::uint32_t datagram_ports_ = 0;  // of queue_pairs_
  bool any_bereaved_ = false;         // some may have QueuePair::fails_at
  std::array<std::unique_ptr<CompletionQueue>, max_completion_queues> queues_;
  std::unordered_map<std::uint32_t, std::unique_ptr<PeerProcess>> peers_;
  std::vector<std::unique_ptr<PeerProcess>> departed_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Offer> offers_;  // by (ours, theirs)
  std::unordered_map<std::uint32_t, SharedFile> shared_;
  std::uint32_t next_shared_ = 1;
  std::vector<MemoryRegion*> shared_regions_;
  std::array<std::atomic<SharedReceiveQueue*>, max_xrc_receive_queues>
      xrc_receive_queues_{};  // 0 is never one's
  struct Replaced {
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t inode;  // of the file that was mapped there
  };
  std::vector<Replaced> replaced_;
  std::atomic<bool> seal_wanted_{false};
  std::unique_ptr<Agent> agent_;  // last: its thread ends first
};

/// Long beside any time slice of a peer that is merely not running, short beside a person's patience.
inline constexpr std::int64_t revocation_bound_ns = 1'000'000'000;
inline constexpr std::int64_t suspicion_ns = 10'000'000;
/// True once `touching()` is false or the peer is gone. False if that won't come: the peer is stopped, or the
/// bound has passed.
template <class Touching>
bool await_withdrawal(Touching touching, const PeerProcess& peer) noexcept {
  if (!touching()) return true;
  const std::int64_t start = monotonic_ns();
  for (std::int64_t suspicious = start + suspicion_ns; touching();) {
    if (peer.gone.load(std::memory_order_acquire)) return true;
    ::sched_yield();  // the peer may need this very processor to finish
    const std::int64_t now = monotonic_ns();
    if (now < suspicious || peer.same_process) continue;  // a thread of ours is never given up
    if (is_stopped(peer.pid) || now - start > revocation_bound_ns) return !touching();
    suspicious = now + suspicion_ns;
  }
  return true;
}

}  // namespace verbena::core::soft
