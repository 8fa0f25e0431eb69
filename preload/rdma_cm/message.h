// SPDX-License-Identifier: Apache-2.0
/// What the two ends of a connection tell each other while it comes and goes: one datagram a message on a
/// Unix SOCK_SEQPACKET connection, which lives as long as the connection. That it closes says that the other
/// end has gone, however it went.
///
/// An InfiniBand communication manager's messages have the same names: REQ, REP, RTU, REJ, DREQ; and the
/// first two stand for SIDR_REQ and SIDR_REP between datagrams' ends.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace verbena::preload::rdma_cm {

enum class MessageKind : std::uint8_t { request = 1, reply, ready, reject, disconnect };

inline constexpr std::size_t most_private_data = 256;  // of any message: RDMA_MAX_PRIVATE_DATA

struct Message {
  static constexpr std::uint32_t right_magic = 0x6d63'6276;
  static constexpr std::uint16_t right_version = 1;

  std::uint32_t magic = right_magic;
  std::uint16_t version = right_version;
  MessageKind kind{};
  std::uint8_t qp_type = 0;  ///< request: what the two ends must agree in
  std::uint32_t qp_num = 0;
  std::uint32_t qkey = 0;  ///< of datagrams
  std::uint32_t first_psn = 0;
  std::uint32_t reason = 0;  ///< reject: IBTA's
  std::uint8_t responder_resources = 0;
  std::uint8_t initiator_depth = 0;
  std::uint8_t flow_control = 0;
  std::uint8_t retry_count = 0;
  std::uint8_t rnr_retry_count = 0;
  std::uint8_t srq = 0;
  std::uint8_t reserved[2] = {};
  sockaddr_in6 source{};       ///< request: the active end's address
  sockaddr_in6 destination{};  ///< request: the passive end's, as the active one has called it
  std::array<std::uint8_t, most_private_data> private_data{};
};

/// 0 or errno; EPIPE where the other end has gone.
int send_message(int socket, const Message& message) noexcept;

enum class Received {
  message,
  nothing,  ///< none waits
  end,      ///< the other end has gone, or isn't one of ours
};
/// Checks who sent it and what it is; the fields' values are for the caller to check.
Received receive_message(int socket, Message& message) noexcept;

}  // namespace verbena::preload::rdma_cm
