// SPDX-License-Identifier: Apache-2.0
/// What a handler has in its hands: the request that it may keep, and the answer that it owes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "verbena/error.h"
#include "verbena/statistics.h"

namespace verbena::transport {
class Channel;
}

namespace verbena::rpc {

using MethodId = std::uint32_t;
using Bytes = std::span<const std::byte>;

/// The pieces of one request or of one reply, one behind the other; the other side meets them as one. A view.
/// A short one is copied together into the message. A long one (over the connection's eager size) isn't
/// flattened: the peer reads piece by piece; it has 8 pieces at most, and fewer where the peer's eager_size
/// is below 192.
struct Gather {
  explicit Gather(std::span<const Bytes> list) noexcept : pieces(list) {}
  std::span<const Bytes> pieces;
};

/// Keeps a request, or a part of it, beyond its handler. As long as it lives the peer has one credit less:
/// that is how held requests are bounded by the declared budget. Thread: its Loop's; it is gone before the
/// Loop is.
class Held {
 public:
  Held() noexcept = default;
  Held(Held&& other) noexcept : kept_(std::exchange(other.kept_, {})) {}
  Held& operator=(Held&& other) noexcept {
    if (this != &other) {
      release();
      kept_ = std::exchange(other.kept_, {});
    }
    return *this;
  }
  ~Held() { release(); }
  Bytes bytes() const noexcept { return kept_.bytes; }

 private:
  friend class Reply;
  void release() noexcept;
  struct Kept {
    transport::Channel* channel = nullptr;
    std::uint32_t serial = 0;
    const std::byte* receive = nullptr;  // the receive buffer that it lies in, or
    std::byte* range = nullptr;          // where a large one was read to, or
    std::size_t length = 0;
    std::unique_ptr<std::byte[]> copy;  // a copy
    Bytes bytes;
  } kept_;
};

/// The answer to one request, owed exactly once. A handler answers at once, or moves it away and answers
/// later, from the same thread. One that is destroyed unanswered says handler_failed to the caller. After the
/// connection was lost an answer goes nowhere, without harm.
class Reply {
 public:
  Reply(Reply&& other) noexcept;
  Reply& operator=(Reply&&) = delete;
  ~Reply();

  /// The result, of any size. It is copied: `bytes` is the caller's again on return. A result that is too
  /// long for the peer turns into handler_failed.
  void send(Bytes bytes) noexcept;
  void send(Gather pieces) noexcept;
  /// Keeps `part`, the request or what lies in it. To be called by the handler itself, before it answers:
  /// what is held later is copied (and allocates).
  Held hold(Bytes part);
  /// The caller's call completes with `code`: handler_failed, rejected, overloaded, cancelled.
  void fail(errc code) noexcept;
  bool answered() const noexcept { return channel_ == nullptr; }

  Reply(transport::Channel& channel, std::uint32_t serial, std::uint32_t slot, std::uint32_t generation,
        std::int32_t window, MethodStatistics& statistics) noexcept
      : channel_(&channel),
        serial_(serial),
        slot_(slot),
        generation_(generation),
        window_(window),
        statistics_(&statistics) {}

 private:
  friend class ReplyStream;
  void send(Bytes first, std::span<const Bytes> more) noexcept;
  transport::Channel* channel_;
  std::uint32_t serial_;
  std::uint32_t slot_;
  std::uint32_t generation_;
  std::int32_t window_;           // parts that the caller takes before its reply
  MethodStatistics* statistics_;  // the method's, which are the Loop's
};

}  // namespace verbena::rpc
