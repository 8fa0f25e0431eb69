// SPDX-License-Identifier: Apache-2.0
/// Two sides that write to each other in turns, and see a write by looking at their own memory.
///
/// It relies on what all RDMA programs of this kind rely on: of one write, the last bytes land last.
#pragma once

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <verbena/memory.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include "tools/perf/session.h"

namespace verbena::tools {

class WritePingPong {
 public:
  /// Both outlive it; `size` bytes a write.
  WritePingPong(Loop& loop, Connection& connection, std::uint64_t size);
  WritePingPong(const WritePingPong&) = delete;
  WritePingPong& operator=(const WritePingPong&) = delete;
  /// Waits for its own writes.
  ~WritePingPong();

  /// Where the peer writes to, and where this side does.
  RemoteRegion mine() const noexcept { return incoming_.remote(); }
  void set_peer(const RemoteRegion& theirs) noexcept { theirs_ = theirs; }

  /// Writes the next number to the peer. Throws Failure.
  void send();
  /// Waits until the peer's next number is here. Throws Failure where the peer is gone.
  void await();

 private:
  static constexpr std::uint32_t window = 64;  // writes under way
  struct Write : Operation {
    WritePingPong* owner = nullptr;
  };
  static void finished(Operation* self, std::error_code error, std::size_t bytes) noexcept;
  bool has_come() const noexcept;
  void write_number() noexcept;
  void wait_patiently();
  void look_after_writes();

  Loop& loop_;
  Connection& connection_;
  std::uint64_t size_;
  std::uint64_t offset_;  // so that a write's last eight bytes are aligned
  Region incoming_;
  Region outgoing_;
  Slice source_;  // of outgoing_
  RemoteRegion theirs_;
  std::uint64_t sent_ = 0;
  std::uint64_t awaited_ = 0;
  std::uint64_t finished_ = 0;
  std::array<Write, window> writes_;
  std::error_code error_;
};

}  // namespace verbena::tools
