// SPDX-License-Identifier: Apache-2.0
/// A reliable-connected queue pair and its way through the states.
#pragma once

#include <array>
#include <cstdint>

#include "core/device.h"
#include "core/handle.h"

namespace verbena::core {

/// What a peer must know of a queue pair to connect to it. Travels in the hello (docs/wire.md).
struct QueuePairFacts {
  std::uint32_t qp_number = 0;        ///< 24 bits
  std::uint32_t packet_sequence = 0;  ///< 24 bits: the first PSN that this side sends
  std::uint16_t lid = 0;              ///< 0 on RoCE
  std::uint8_t mtu = 0;               ///< ibv_mtu of the port
  std::uint8_t reads_accepted = 0;    ///< outstanding reads and atomics that this side answers
  std::array<std::uint8_t, 16> gid{};
};

struct QueuePairOptions {
  std::uint32_t send_depth = 128;   ///< work requests
  std::uint32_t receive_depth = 0;  ///< work requests; 0 with a shared receive queue
  std::uint32_t gather = 4;         ///< scatter/gather entries a work request
  std::uint32_t inline_size = 64;   ///< bytes; the device may grant more: see QueuePair::inline_size()
  bool signal_all = false;
  std::uint8_t reads = 16;  ///< outstanding reads and atomics each way, cut to the device's limit
  std::uint8_t ack_timeout_exponent = 14;       ///< 4.096 µs × 2^n a try: 67 ms
  std::uint8_t retries = 3;                     ///< at most 6: on rxe 7 means for ever
  std::uint8_t receiver_not_ready_retries = 7;  ///< 7: for ever; credits make it impossible in steady state
  std::uint8_t receiver_not_ready_timer = 12;   ///< code of ibv_modify_qp(3): 12 is 0.64 ms
};

/// Thread safety: as verbs; one thread at a time changes the state. Lifetime: the device, protection domain,
/// queues outlive it. Destruction moves it to the error state and drains it of what the device may still
/// touch.
class QueuePair {
 public:
  QueuePair(Device& device, ibv_pd* pd, ibv_cq* send_cq, ibv_cq* receive_cq, ibv_srq* srq,
            const QueuePairOptions& options, std::uint8_t port = 1);
  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  /// What the peer needs; valid from construction on.
  const QueuePairFacts& facts() const noexcept { return facts_; }
  /// RESET or INIT → RTR → RTS towards the peer. Throws Error naming the transition that failed.
  void bring_up(const QueuePairFacts& peer);
  /// → ERR: every outstanding work request completes with a flush error. Safe in every state, and twice.
  void fail() noexcept;
  /// → RESET → INIT, to be brought up anew, towards another peer too. Only when drained.
  void recycle();

  ibv_qp* get() const noexcept { return qp_.get(); }
  ibv_qp_state state() const noexcept { return state_; }
  std::uint32_t number() const noexcept { return facts_.qp_number; }
  std::uint32_t inline_size() const noexcept { return inline_size_; }
  std::uint32_t send_depth() const noexcept { return options_.send_depth; }

 private:
  void transition(ibv_qp_state to, ibv_qp_attr& attr);  // with fail() the only writer of state_
  void initialise();

  Device& device_;
  QueuePairOptions options_;
  std::uint8_t port_;
  int gid_index_ = 0;
  bool atomics_ = false;
  std::uint32_t inline_size_ = 0;
  ibv_qp_state state_ = IBV_QPS_RESET;
  QueuePairFacts facts_;
  Handle<ibv_qp> qp_;
};

}  // namespace verbena::core
