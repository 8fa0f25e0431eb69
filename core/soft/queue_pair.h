// SPDX-License-Identifier: Apache-2.0
/// A queue pair of soft0: its state, its two queues and its link.
///
/// The send side (post_send, retire, `sends`, the producing half of `link`) is guarded by the send completion
/// queue's lock, the receive side (post_receive, receive, `receives`, the consuming half) by the receive
/// completion queue's. State changes take both. Each side that must touch the other's only leaves word: a
/// flag, and a hint.
///
/// The parts: queue_pair.cc (states and errors), requester.cc (what a posted send does), responder.cc (what
/// an arriving entry does), remote_memory.cc (touching the peer's memory), target.cc (what a peer asks us to
/// do for it), queue_pair_faults.cc (what a fault plan does to all of that).
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "core/soft/datagram_port.h"
#include "core/soft/faults.h"
#include "core/soft/layout.h"
#include "core/soft/link.h"
#include "core/soft/queue_pair_trace.h"
#include "core/soft/receive_queue.h"
#include "core/soft/send_queue.h"
#include "core/soft/shared_receive_queue.h"
#include "core/soft/work_batch.h"
#include "core/soft/xrc_domain.h"

namespace verbena::core::soft {

class Context;
struct CompletionQueue;

inline constexpr std::uint32_t max_inline = 512;
/// Beside ibv_send_flags: the request is ibv_bind_mw's, who alone binds windows of type 1.
inline constexpr unsigned by_bind_verb = 1u << 31;

struct ThreadDomain : ibv_td {
  std::atomic<std::uint32_t> users{0};
};

/// A parent domain (ibv_alloc_parent_domain(3)) is another name of the domain that it was made of.
struct ProtectionDomain : ibv_pd {
  std::uint16_t number = 0;
  std::atomic<std::uint32_t> users{0};
  ProtectionDomain* original = nullptr;  ///< of a parent domain; else null
  ThreadDomain* thread = nullptr;        ///< of a parent domain that has one
};
inline std::uint16_t domain_number(const ibv_pd* pd) noexcept {
  return static_cast<const ProtectionDomain*>(pd)->number;
}

/// Where a datagram goes.
struct AddressHandle : ibv_ah {
  ibv_ah_attr attributes{};
  DatagramPath path{};
  bool is_here = false;  ///< it leads to this host; else what is sent there is lost
};

struct QueuePair : QueuePairFace {
  QueuePair(Context& owner, ibv_pd* domain, std::uint32_t number, const ibv_qp_init_attr& init);

  // ---- Verbs; each takes the locks that it needs ----
  int post_send(ibv_send_wr* request, ibv_send_wr** bad) noexcept;
  /// The same where a fault plan is in force, or a trace is written.
  int post_send_by_plan(ibv_send_wr* request, ibv_send_wr** bad) noexcept;
  /// All of the list or, with an errno value, none.
  int post_whole(ibv_send_wr* requests) noexcept;
  int post_receive(ibv_recv_wr* request, ibv_recv_wr** bad) noexcept;

  // ---- Called by completion queues, under their lock ----
  /// Takes in what the peer has put into our ring, as far as receives and room allow.
  void receive() noexcept;
  void receive_direct() noexcept {
    if (link.in && link.has_entry(link.first_slot().word.load(std::memory_order_acquire))) receive();
  }
  bool has_backlog() const noexcept {
    return not_ready_since_ != 0 || unfinished_ || has_receives_to_flush() || listens();
  }
  /// Completes what the peer has consumed, carries on with what waits. `look`: read the peer's progress line
  /// too.
  void retire(bool look) noexcept;
  /// What retire(false) does in the common case: completes what the peer was heard to have consumed. False,
  /// and nothing done, where there may be more to do.
  bool retire_acknowledged() noexcept;
  bool has_outstanding() const noexcept { return !sends.is_empty(); }
  void ask_for_event() noexcept;
  void nudge_peer() noexcept;
  void set_attention(Attention attention) noexcept {
    if (link.in) link.in->attention.store(attention, std::memory_order_relaxed);  // fenced by the caller
  }

  // ---- Called by the context, under both locks ----
  void change_state(ibv_qp_state to) noexcept;
  void enter_reset() noexcept;
  void enter_error() noexcept;
  /// Context::seal is done.
  void go_on_sealed() noexcept;
  /// The peer's process is gone: takes in what it left, then fails.
  void lose_peer() noexcept;
  /// The same where a program is to hear of it as from hardware: takes in what the peer left, and leaves the
  /// rest to `fails_at`. False, where it has to fail now: something of ours waits for the peer.
  bool bear_loss() noexcept;
  void detach() noexcept;

  // ---- Loans: lending.cc; the borrower's under the send completion queue's lock ----
  static std::uint64_t hazard_of(const Loan& loan) noexcept {
    return loan.key | (std::uint64_t{loan.place} + 1) << 32;
  }
  /// Whether the peer reads this loan of ours; or any, through `key`. Acquire: pairs with its withdrawal.
  bool is_borrowed(const Loan& loan) const noexcept {
    return link.in && link.in->borrowed.load(std::memory_order_acquire) == hazard_of(loan);
  }
  bool is_borrowed(std::uint32_t key) const noexcept {
    return link.in && static_cast<std::uint32_t>(link.in->borrowed.load(std::memory_order_acquire)) == key;
  }
  Lending::Borrow borrow(const Loan& loan, const std::byte*& bytes) noexcept;
  void give_back() noexcept;
  /// `mapping` is about to go: it is kept until a loan that lies in it has been given back.
  void keep_while_borrowed(const std::shared_ptr<const Mapping>& mapping) noexcept {
    if (borrowed_ && mapping->contains(borrowed_)) borrowed_mapping_ = mapping;
  }

  /// Only reliable service knows of errors that a peer finds; others lose what a peer doesn't take.
  bool is_reliable() const noexcept { return qp_type != IBV_QPT_UC && qp_type != IBV_QPT_UD; }
  /// Datagrams may come at any time, and nobody rings for them.
  bool listens() const noexcept {
    const ibv_qp_state now = current_state();
    return datagrams && now != IBV_QPS_RESET && now != IBV_QPS_INIT && now != IBV_QPS_ERR;
  }
  ibv_qp_state current_state() const noexcept { return current_.load(std::memory_order_relaxed); }
  CompletionQueue& send_completions() noexcept { return send_completions_; }
  CompletionQueue& receive_completions() noexcept { return receive_completions_; }

  Context& owner_context;
  ProtectionDomain& domain;
  SharedReceiveQueue* const shared_receives;
  const bool signal_all;
  ibv_qp_cap capacities;
  ibv_qp_attr attributes{};  // what modify_qp has set

  SendQueue sends;
  ReceiveQueue receives;
  std::uint32_t receives_posted = 0;  // since the reset
  Link link;
  std::unique_ptr<DatagramPort> datagrams;  // of UD, which has no link; else null
  std::shared_ptr<XrcSpace> xrc_space;      // of an XRC receive queue pair; else null
  std::unique_ptr<WorkBatch> batch;         // where it was created for ibv_wr_start; else null
  ibv_qp_ex& face() noexcept { return *reinterpret_cast<ibv_qp_ex*>(static_cast<ibv_qp*>(this)); }

  bool holds_both = false;  // whoever is at work holds both locks: neither side takes the other's
  bool is_direct = false;   // of the receive completion queue's lists
  bool in_backlog = false;
  bool in_senders = false;  // of the send completion queue's

  std::int64_t fails_at =
      0;  ///< ns; its peer has died, and it will fail then; 0: no. Guarded by the context's mutex

  /// The key of our own memory that a request of the peer makes us touch now: see Context::await_accesses.
  std::atomic<std::uint64_t> own_hazard{0};
  /// How far a failed queue pair is with its peer. Nothing is flushed before it is `over`.
  enum class Parting : std::uint8_t {
    none,      ///< it hasn't failed
    waiting,   ///< for the end of what the peer has begun
    unsealed,  ///< that can't be waited for: Context::seal will see to it
    sealing,
    over,  ///< nothing that the peer has begun reaches our memory any more
  };
  std::atomic<Parting> parting{Parting::none};

 private:
  // requester.cc
  template <bool by_plan>
  int post_all(ibv_send_wr* request, ibv_send_wr** bad) noexcept;
  template <bool by_plan>
  int post_one(const ibv_send_wr& request) noexcept;
  bool post_small_send(const ibv_send_wr& request) noexcept;
  bool post_mapped_write(const ibv_send_wr& request) noexcept;
  int check_request(const ibv_send_wr& request, std::uint32_t& length) const noexcept;
  void enqueue(const ibv_send_wr& request, std::uint32_t length) noexcept;
  void advance() noexcept;
  enum class Step { done, blocked, failed };
  Step carry_out(SendRequest& request, std::uint32_t position) noexcept;
  Step lose_or_wait(SendRequest& request) noexcept;
  bool name_receive_queue(const SendRequest& request) noexcept;
  Step refuse_access(ibv_wc_status status) noexcept;
  Step send_message(SendRequest& request, std::uint32_t position) noexcept;
  Step send_described(SendRequest& request, std::uint32_t position) noexcept;
  bool describable(const SendRequest& request, std::uint32_t position) noexcept;
  Step send_notice(SendRequest& request) noexcept;
  Step read_or_write(SendRequest& request, std::uint32_t position) noexcept;
  Step carry_out_atomic(SendRequest& request, std::uint32_t position) noexcept;
  Step ask_target(SendRequest& request, std::uint32_t position) noexcept;
  Step bind_window(SendRequest& request) noexcept;
  Step invalidate_local(SendRequest& request) noexcept;
  Step fail_with(ibv_wc_status status) noexcept {
    broken_ = status;
    return Step::failed;
  }
  bool may_send() noexcept;
  bool messages_are_expected() noexcept;
  bool local_pieces_valid(std::span<const ibv_sge> pieces, unsigned access) const noexcept;
  void gather(const SendRequest& request, std::uint32_t position, std::uint32_t offset, std::byte* to,
              std::uint32_t length) noexcept;
  void look_at_peer() noexcept;
  bool complete_done() noexcept;
  void complete(const SendRequest& request, ibv_wc_status status) noexcept;
  void report_access_fault() noexcept;
  std::int64_t ack_patience_ns() const noexcept;
  void check_patience() noexcept;

  // responder.cc
  bool take_entry(Slot& slot, std::uint64_t word) noexcept;
  bool take_incoming(Slot& slot, SlotKind kind, std::uint8_t flags, std::uint32_t length) noexcept;
  bool may_fill(std::uint32_t lkey, const std::byte* memory, std::uint32_t length) const noexcept;
  bool take_short_message(const Slot& slot, std::uint64_t word) noexcept;
  bool take_message(Slot& slot, std::uint8_t flags, std::uint32_t length) noexcept;
  bool take_described(Slot& slot, std::uint8_t flags, std::uint32_t length) noexcept;
  bool take_notice(Slot& slot, std::uint8_t flags, std::uint32_t length) noexcept;
  bool receives_wait() const noexcept;
  bool has_receive() noexcept;
  bool has_space_for(std::uint32_t length) const noexcept;
  bool loses(Slot& slot, SlotKind kind, std::uint8_t flags, std::uint32_t length) noexcept;
  void lose_entry(std::uint32_t slots) noexcept;
  bool begin_receive() noexcept;
  bool scatter(const std::byte* from, std::uint32_t length) noexcept;
  void finish_receive(const Slot& slot, std::uint8_t flags, ibv_wc_opcode opcode,
                      std::uint32_t length) noexcept;
  void fail_receive(ibv_wc_status ours, ibv_wc_status theirs) noexcept;
  bool wait_for_receive() noexcept;
  bool stay_unfinished() noexcept;
  void refuse(ibv_wc_status theirs) noexcept;
  Step copy_described(const Piece& piece) noexcept;
  Step take_back(std::uint32_t length) noexcept;
  bool receive_pieces_valid(std::uint32_t length) const noexcept;
  bool has_receives_to_flush() const noexcept;
  void flush_receives() noexcept;
  void tell_last_receive() noexcept;
  void complete_receive(std::uint64_t id, ibv_wc_status status) noexcept;
  bool invalidate_window(std::uint32_t key) noexcept;

  // datagrams.cc
  Step send_datagram(SendRequest& request, std::uint32_t position) noexcept;
  bool hand_over(const SendRequest& request, std::uint32_t position) noexcept;
  bool has_deferred_to(std::uint32_t receiver) noexcept;
  void retry_datagrams() noexcept;
  void receive_datagrams() noexcept;
  void take_datagram(const Datagram& datagram) noexcept;

  // xrc.cc
  bool take_named(const Slot& slot) noexcept;
  bool take_for_named(Slot& slot, SlotKind kind, std::uint8_t flags, std::uint32_t length) noexcept;
  void flush_for_named() noexcept;
  template <class Work>
  bool with_named(Work work) noexcept;

  // target.cc
  bool serve_write(const Slot& slot, std::uint32_t length) noexcept;
  bool serve_read(const Slot& slot) noexcept;
  bool serve_atomic(const Slot& slot) noexcept;
  void take_answers() noexcept;
  bool take_response(const Slot& slot, std::uint32_t length) noexcept;
  bool respond(std::span<const std::byte> bytes) noexcept;
  std::byte* own_memory(const TargetRequest& request, unsigned access) noexcept;

  // remote_memory.cc
  enum class Reach {
    mapped,   ///< `mapped` is valid here
    kernel,   ///< process_vm_readv/writev, where `mapped` is the address in the peer
    target,   ///< only the peer itself can touch it
    later,    ///< asked for a mapping; try again
    refused,  ///< the key doesn't allow it
  };
  Reach reach(Role role, std::uint32_t key, std::uint64_t address, std::uint64_t length, unsigned access,
              std::byte*& mapped) noexcept;
  int copy_by_kernel(std::span<const ibv_sge> pieces, std::uint32_t offset, std::uint64_t remote,
                     std::uint32_t length, bool write) noexcept;
  /// After a copy: the key still is what it was before, so the bytes are those that it stands for.
  bool still_granted(std::uint32_t key) const noexcept;
  /// A key that was looked up before; valid while the peer's entry holds `word` and nothing was unmapped.
  struct KnownKey {
    std::uint64_t word = 0;
    const KeyEntry* entry = nullptr;
    std::uint64_t address = 0;
    std::uint64_t length = 0;
    std::byte* mapped = nullptr;
    std::uint32_t memory = 0;
    std::uint32_t epoch = 0;
  };
  KnownKey known_write_;
  KnownKey known_loan_;
  /// Behind the hazard.
  bool still_mapped(const KnownKey& known) const noexcept {
    return link.out->state.load(std::memory_order_acquire) == LinkState::ready &&
           known.entry->word.load(std::memory_order_acquire) == known.word &&
           known.entry->memory.load(std::memory_order_relaxed) == known.memory &&
           link.peer->memory_epoch.load(std::memory_order_acquire) == known.epoch;
  }
  bool still_granted(const KnownKey& known) const noexcept {
    std::atomic_thread_fence(std::memory_order_acquire);
    return link.out->state.load(std::memory_order_relaxed) == LinkState::ready &&
           known.entry->word.load(std::memory_order_relaxed) == known.word;
  }

  const std::byte* borrowed_ = nullptr;              // a loan that hasn't been given back …
  std::shared_ptr<const Mapping> borrowed_mapping_;  // … whose mapping the peer has already closed

  // queue_pair_faults.cc
  void advance_by_plan() noexcept;
  Faults::Patience patience() const noexcept;
  std::span<const ibv_sge> pieces_of(const SendRequest& request, std::uint32_t position) noexcept;
  bool lose_unreliable(SendRequest& request) noexcept;
  void cut_link() noexcept;
  void come_late(Role role) noexcept;

  // queue_pair.cc
  void fail_sends() noexcept;
  bool await_peer(std::uint32_t key) noexcept;
  void flush_sends() noexcept;

  CompletionQueue& send_completions_;  // ibv_qp's, by their type
  CompletionQueue& receive_completions_;
  std::atomic<ibv_qp_state> current_{IBV_QPS_RESET};

  // Sending.
  ibv_wc_status broken_ = IBV_WC_SUCCESS;  // not success: the request at sends.next fails with it
  ibv_wc_status refused_ =
      IBV_WC_SUCCESS;              // not success: the peer refused the first entry that it hasn't consumed
  bool has_target_write_ = false;  // one-sided operations wait until the ring is consumed up to …
  std::uint32_t target_write_end_ = 0;  // … here
  std::uint32_t messages_sent_ = 0;     // since the link's beginning: each needs one of the peer's receives
  std::int64_t waiting_since_ = 0;      // ns; 0: nothing waits for the link
  std::uint32_t named_ = 0;             // XRC: the peer's receive queue that messages are for; 0: none yet
  std::uint32_t deferred_ = 0;  // datagrams that wait for room at their receivers: `sent`, and not done

  // Receiving.
  // Where messages find their receives, and these complete; XRC's are another each time.
  SharedReceiveQueue* receives_from_ = shared_receives;
  CompletionQueue* delivery_ = &receive_completions_;
  std::uint16_t receive_domain_ = domain.number;
  std::uint32_t for_named_ = 0;  // XRC: our receive queue that messages are for, by the peer's word
  Receive current_receive_;
  bool receiving_ = false;
  std::uint32_t received_ = 0;
  std::uint32_t described_ = 0;       // pieces of the described message that have been copied
  std::int64_t not_ready_since_ = 0;  // ns; 0: not waiting for a receive
  bool unfinished_ = false;           // an entry waits for room, a mapping or a lock
  bool refusing_ = false;             // the peer has been told that its entry failed
  bool told_last_receive_ = false;    // of a shared receive queue
  bool losing_ = false;               // the rest of this message: its beginning found no place

  std::unique_ptr<Faults> faults_;         // by the context's plan; null where it has none, as nearly always
  std::unique_ptr<QueuePairTrace> trace_;  // null where nothing is traced, as nearly always
};

/// Returns the old value; the compare value travels in `compare_add` as it does in verbs.
std::uint64_t apply_atomic(std::byte* at, bool compare, std::uint64_t compare_add,
                           std::uint64_t swap) noexcept;

}  // namespace verbena::core::soft
