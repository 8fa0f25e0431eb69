// SPDX-License-Identifier: Apache-2.0
/// A file of the packets that a device on RoCE v2 would have sent, as tcpdump and Wireshark read it (pcap, in
/// nanoseconds): Ethernet, IPv4 or IPv6, UDP, the base transport header and those behind it, the payload, the
/// invariant CRC.
///
/// Several processes may write into one file: each packet is one write(2) to its end, so whole ones
/// alternate, and the file is readable at any time. A process that is killed within a write(2), or a full
/// file system, may leave half a packet; what comes behind that is lost to the reader.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "core/soft/datagram_port.h"
#include "core/soft/shared_file.h"

namespace verbena::core::soft {

/// IBTA's opcodes of reliable connections; those of other services have these behind a prefix.
namespace packet_opcode {
inline constexpr std::uint8_t send_first = 0x00, send_middle = 0x01, send_last = 0x02, send_last_imm = 0x03,
                              send_only = 0x04, send_only_imm = 0x05, write_first = 0x06, write_middle = 0x07,
                              write_last = 0x08, write_last_imm = 0x09, write_only = 0x0a,
                              write_only_imm = 0x0b, read_request = 0x0c, read_first = 0x0d,
                              read_middle = 0x0e, read_last = 0x0f, read_only = 0x10, acknowledge = 0x11,
                              atomic_acknowledge = 0x12, compare_swap = 0x13, fetch_add = 0x14,
                              send_last_invalidate = 0x16, send_only_invalidate = 0x17;
inline constexpr std::uint8_t of_unreliable_connection = 0x20, of_datagrams = 0x60;
}  // namespace packet_opcode

/// Packet sequence numbers have 24 bits.
inline constexpr std::uint32_t psn_mask = 0xff'ffff;

struct BaseHeader {
  std::uint8_t opcode;
  bool solicited;
  bool wants_acknowledgement;
  std::uint32_t destination;  ///< a queue pair's number
  std::uint32_t psn;
};

/// Makes `path` a trace without packets; leaves one that is there as it is: what is traced next goes to its
/// end. Throws Error: invalid_argument with what is in the way.
void prepare_trace(const std::string& path);

class Trace {
 public:
  /// By the environment's VERBENA_TRACE; null where that isn't set. Throws as prepare_trace().
  static std::unique_ptr<Trace> from_environment();
  explicit Trace(const std::string& path);

  /// Any thread. A file that takes no more ends the trace, with a line on stderr.
  void write(const DatagramPath& path, const BaseHeader& base, std::span<const std::byte> extension,
             std::span<const std::byte> payload) noexcept;

 private:
  std::string path_;
  Descriptor file_;
  std::mutex mutex_;
  bool has_ended_ = false;
  std::array<std::byte, 8192> record_;  // one packet's
};

}  // namespace verbena::core::soft
