// SPDX-License-Identifier: Apache-2.0
/// A peer in another process: a storekeeper that takes messages, a streamer, a hammerer, a victim. Their
/// other halves are in remote_process.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "support/child.h"
#include "support/endpoint.h"

namespace verbena::test {

/// The memory that the peer opens to this process.
struct PeerMemory {
  MemoryKind kind;
  std::size_t size;
};

/// A range of the peer's memory, as a receive.
struct Range {
  std::size_t offset;
  std::size_t length;
};

struct Message {
  std::uint32_t length;
  std::uint32_t imm;
};

inline constexpr std::size_t hammer_memory = 64 * 1024;
inline constexpr std::size_t stream_memory = 1 << 20;

std::uint64_t checksum(std::span<const std::byte> bytes);

/// Sends numbered messages of odd sizes, and takes and checks the peer's, both at once. Throws at a
/// difference.
void stream(Endpoint& endpoint, Buffer& memory);

/// The peer's side of RemoteProcess's constructor: the memory that was asked for, opened by `endpoint`, which
/// is connected then.
Buffer& meet_parent(Endpoint& endpoint, Line& parent);

class RemoteProcess {
 public:
  RemoteProcess(core::Device& device, const std::string& role, PeerMemory memory);
  RemoteProcess(core::Device& device, const std::string& role, PeerMemory memory,
                const EndpointOptions& options);

  /// This side, connected to the peer's.
  Endpoint& endpoint() { return endpoint_; }
  /// The peer's memory.
  Remote remote(std::size_t offset = 0) const { return remote_ + offset; }
  Child& child() { return child_; }

  // The storekeeper.
  void expect_message(Range into);
  Message message();
  std::uint64_t checksum();
  void send_to_sleep();
  void wake() { child_.line().wake(); }

  // The hammerer.
  void start_hammering(Remote target) { child_.line().put(target); }
  ibv_wc_status hammering_ended_with() { return child_.line().get<ibv_wc_status>(); }

  void stop();
  /// Waits until it has been stopped, by whomever.
  void await_stop();
  void go_on();
  void kill() { child_.kill(); }
  /// Waits for its end, which must be a good one.
  void finish();

 private:
  Child child_;
  Endpoint endpoint_;
  Remote remote_{};
};

}  // namespace verbena::test
