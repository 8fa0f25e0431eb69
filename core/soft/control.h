// SPDX-License-Identifier: Apache-2.0
/// What processes tell each other outside the rings: one datagram a message on a Unix SOCK_SEQPACKET
/// connection, with the descriptors that belong to it. Cold: a few messages a connection.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/soft/layout.h"
#include "core/soft/shared_file.h"

namespace verbena::core::soft {

enum class ControlKind : std::uint16_t {
  hello = 1,  ///< first on a connection. Descriptors: public table, bells
  offer,      ///< queue pair `from` is ready for `to`. Descriptors: Inbound, [receive event], [send event]
  nudge,      ///< please make progress on queue pair `to`: its peer has been waiting
  memory_request,  ///< please pass shared file `id`
  memory,          ///< here it is; `length` 0 and no descriptor: there is none. Descriptor: the file
  memory_gone,     ///< shared file `id` has been deregistered: unmap it
};

struct ControlMessage {
  std::uint32_t magic = layout_magic;
  std::uint16_t version = layout_version;
  ControlKind kind{};
  std::uint32_t block = 0;
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::uint32_t id = 0;
  std::uint32_t receive_event = 0;  ///< offer: number of the completion channel; 0: none
  std::uint32_t send_event = 0;     ///< of the same number: its descriptor isn't passed twice
  std::uint64_t length = 0;
  std::uint64_t probe_address = 0;  ///< hello: where `probe_value` stands, to try process_vm_readv
  std::uint64_t probe_value = 0;
};

inline constexpr std::size_t max_descriptors = 3;
struct ControlParcel {
  ControlMessage message;
  /// Empty where there was none, or where this process may open no more.
  std::array<Descriptor, max_descriptors> descriptors;
};

/// 0 or errno; EAGAIN where the receiver's buffer is full.
int send_control(int socket, const ControlMessage& message, std::span<const int> descriptors = {}) noexcept;
/// 1: got one; 0: the peer closed; -1: none waits (EAGAIN) or an error; EPROTO for what isn't a message of
/// ours.
int receive_control(int socket, ControlParcel& parcel) noexcept;

/// The listening socket of a block; empty with errno (EADDRINUSE: another process has it).
Descriptor listen_as_block(std::uint32_t block) noexcept;
/// A connection to the process that owns a block; ECONNREFUSED where none does.
Descriptor connect_to_block(std::uint32_t block) noexcept;

}  // namespace verbena::core::soft
