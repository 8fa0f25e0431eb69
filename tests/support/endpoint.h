// SPDX-License-Identifier: Apache-2.0
/// One side of a connection, made of raw verbs: a protection domain, two completion queues, a queue pair.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "core/handle.h"
#include "support/patience.h"
#include "support/work.h"

namespace verbena::test {

struct EndpointOptions {
  ibv_qp_type type = IBV_QPT_RC;
  std::uint32_t send_depth = 32;
  std::uint32_t receive_depth = 32;
  std::uint32_t gather = 4;
  std::uint32_t inline_size = 64;
  ibv_pd* pd = nullptr;    ///< its own where null
  ibv_srq* srq = nullptr;  ///< its own receive queue where null
  ibv_cq* receive_cq = nullptr;
  ibv_cq* send_cq = nullptr;
  std::uint64_t operations = 0;  ///< IBV_QP_EX_WITH_*: created for ibv_wr_start where not 0
  int completions = 256;
  bool signal_all = false;
  unsigned int access =
      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
  std::uint8_t ack_timeout_exponent = 12;  ///< 17 ms a try
  std::uint8_t retries = 3;                ///< 7 is for ever on rxe
  std::uint8_t receiver_not_ready_retries = 6;
  std::uint8_t receiver_not_ready_timer = 18;  ///< 4 ms
  std::uint8_t reads = 4;
};

/// The Q_Key of every UD endpoint.
inline constexpr std::uint32_t datagram_key = 0x1111;

/// What the peer must know; travels between processes as it is.
struct EndpointFacts {
  std::uint32_t qp_number;
  std::uint32_t packet_sequence;
  std::uint16_t lid;
  ibv_gid gid;
};

class Endpoint {
 public:
  explicit Endpoint(core::Device& device, const EndpointOptions& options = {});

  EndpointFacts facts();
  /// RESET → INIT → RTR → RTS.
  void connect(const EndpointFacts& peer);
  void to_init();
  void to_rtr(const EndpointFacts& peer);
  void to_rts();
  /// 0 or an errno value; only the state, for the arrows that need no more.
  int to(ibv_qp_state state);
  ibv_qp_state state();

  Buffer& buffer(std::size_t size, MemoryKind kind = MemoryKind::heap, int access = full_access);

  /// 0 or an errno value.
  int try_post(const Work& work);
  /// 0 or an errno value; `bad` becomes the index of the request that was refused.
  int try_post(std::vector<Work>& chain, std::size_t& bad);
  int try_post_receive(const Pieces& pieces, std::uint64_t id = 0);
  /// Whether `bad_wr` named the receive that try_post_receive posted last.
  bool names_refused_receive() const { return names_refused_receive_; }
  /// The same, when it must succeed.
  void post(const Work& work);
  void post_receive(const Pieces& pieces, std::uint64_t id = 0);
  void post_receive(const ibv_sge& piece, std::uint64_t id = 0) { post_receive(Pieces{piece}, id); }

  /// The next completion of the send or receive queue, within patience.
  ibv_wc sent() { return next(send_cq(), "a send completion"); }
  ibv_wc received() { return next(receive_cq(), "a receive completion"); }
  ibv_wc next(ibv_cq* cq, const char* what);
  /// Nothing waits right now.
  bool nothing_sent() { return nothing(send_cq()); }
  bool nothing_received() { return nothing(receive_cq()); }

  core::Device& device() { return device_; }
  ibv_pd* pd() { return pd_; }
  ibv_qp* qp() { return qp_.get(); }
  ibv_cq* send_cq() { return send_cq_; }
  ibv_cq* receive_cq() { return receive_cq_; }
  ibv_comp_channel* channel() { return channel_.get(); }
  std::uint32_t number() const { return qp_->qp_num; }
  /// What the device granted.
  const ibv_qp_cap& granted() const { return granted_; }
  /// Before the memory of others dies; destruction does it too.
  void destroy_queue_pair() { qp_.reset(); }

 private:
  bool nothing(ibv_cq* cq);
  void must(const char* what, int error);

  core::Device& device_;
  EndpointOptions options_;
  core::Handle<ibv_pd> own_pd_;
  ibv_pd* pd_;
  core::Handle<ibv_comp_channel> channel_;
  core::Handle<ibv_cq> own_send_cq_;
  ibv_cq* send_cq_;
  core::Handle<ibv_cq> own_receive_cq_;
  ibv_cq* receive_cq_;
  std::deque<Buffer> buffers_;
  ibv_qp_cap granted_{};
  bool names_refused_receive_ = false;
  core::Handle<ibv_qp> qp_;
};

inline void connect(Endpoint& a, Endpoint& b) {
  a.to_init();
  b.to_init();
  a.to_rtr(b.facts());
  b.to_rtr(a.facts());
  a.to_rts();
  b.to_rts();
}

}  // namespace verbena::test
