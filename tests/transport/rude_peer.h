// SPDX-License-Identifier: Apache-2.0
/// A peer that meets a listener as Verbena does, and then says over RDMA whatever a test tells it to.
#pragma once

#include <memory>
#include <span>

#include "support/endpoint.h"
#include "transport/hello.h"
#include "transport/loops.h"
#include "transport/stranger.h"
#include "transport/wire.h"

namespace verbena::test {

class RudePeer {
 public:
  /// Meets the listener of `loops.server_loop` at `port`; throws what it refuses.
  RudePeer(Loops& loops, std::uint16_t port);

  /// Sends one message. False where the connection has ended.
  bool say(std::span<const std::byte> bytes);
  /// A header that is right, to be spoilt.
  transport::MessageHeader header(transport::Kind kind) const;
  /// The parts one after the other, as one message.
  template <class... Part>
  bool say(const Part&... parts) {
    Message bytes;
    (append(bytes, std::as_bytes(std::span(&parts, 1))), ...);
    return say(std::span<const std::byte>(bytes));
  }
  /// Its device acknowledges nothing any more; its socket stays open.
  void fall_silent() { endpoint_.to(IBV_QPS_ERR); }
  /// Memory that the listener may read.
  Buffer& memory() { return *memory_; }
  const transport::Hello& server() const { return server_; }

 private:
  static void append(Message& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
  }

  std::unique_ptr<core::Device> device_;
  Endpoint endpoint_;
  Buffer* out_;
  Buffer* memory_;
  Stranger line_;
  transport::Hello server_;
};

}  // namespace verbena::test
