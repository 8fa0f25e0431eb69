// SPDX-License-Identifier: Apache-2.0
/// The packets of one queue pair in a trace: what it asks, and what it is answered. Each process traces its
/// own requests and their answers; so each packet is there once where both ends are traced.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <deque>
#include <span>

#include "core/soft/send_queue.h"
#include "core/soft/trace.h"

namespace verbena::core::soft {

/// Guarded by the queue pair's send completion queue's lock.
class QueuePairTrace {
 public:
  QueuePairTrace(Trace& trace, const ibv_qp& qp, const ibv_qp_attr& attributes)
      : trace_(trace), qp_(qp), attributes_(attributes) {}

  /// It has been carried out, or has gone to the peer.
  void request(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept;
  /// The oldest request of which this hasn't been said is done.
  void done() noexcept;
  /// The oldest failed like this. `request`: it hadn't gone to the peer yet; else null.
  void failed(ibv_wc_status status, const SendRequest* request, std::span<const ibv_sge> pieces) noexcept;
  void reset() noexcept;

 private:
  struct Pending {
    bool wants_acknowledgement;
    std::uint32_t psn;  // its last packet's
  };
  void begin() noexcept;
  std::uint32_t bytes_of_packet() const noexcept { return 128u << attributes_.path_mtu; }
  std::uint8_t service() const noexcept;
  void message(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept;
  void datagram(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept;
  template <class Emit>
  void for_each_packet(std::uint32_t total, Emit emit) noexcept;
  void read(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept;
  void read_request(const SendRequest& request) noexcept;
  void atomic(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept;
  void atomic_request(const SendRequest& request) noexcept;
  void send(std::uint8_t opcode, std::uint32_t psn, std::span<const std::byte> extension,
            std::span<const std::byte> payload, bool is_last, bool solicited) noexcept;
  void answer(std::uint8_t opcode, std::uint32_t psn, std::span<const std::byte> extension,
              std::span<const std::byte> payload) noexcept;
  void acknowledge(std::uint8_t syndrome, std::uint32_t psn) noexcept;

  Trace& trace_;
  const ibv_qp& qp_;
  const ibv_qp_attr& attributes_;
  bool has_begun_ = false;
  DatagramPath path_{};
  std::uint32_t psn_ = 0;        // the next request's
  std::uint32_t completed_ = 0;  // messages, as the peer counts them
  std::deque<Pending> pending_;
};

}  // namespace verbena::core::soft
