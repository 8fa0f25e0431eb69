// SPDX-License-Identifier: Apache-2.0
/// What the measuring side tells the responding side, as messages of the connection that is measured.
///
/// prepare → answer; then rounds, which need no answer, because the test's own traffic follows in order;
/// finish. Both sides run the same build or, between hosts, the same version: `version` is checked.
#pragma once

#include <verbena/memory.h>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "tools/perf/test_kind.h"

namespace verbena::tools {

constexpr std::uint64_t order_magic = 0x7265'6472'6f20'6276;  // "vb order"
constexpr std::uint32_t order_version = 1;

enum class OrderKind : std::uint32_t {
  prepare,  ///< be ready for `test` at `size`; answer
  floor,    ///< pong `count` times
  round,    ///< `count` round trips follow
  report,   ///< answer with the number of messages that came since prepare
  finish,   ///< the measurement is over
};

struct Order {
  std::uint64_t magic = order_magic;
  std::uint32_t version = order_version;
  OrderKind kind = OrderKind::finish;
  TestKind test = TestKind::floor;
  std::uint32_t depth = 0;
  std::uint64_t size = 0;
  std::uint64_t count = 0;
  RemoteRegion region;  ///< prepare: where the measuring side may be written to
};
static_assert(std::is_trivially_copyable_v<Order> && std::is_standard_layout_v<Order>);

struct Answer {
  std::uint64_t magic = order_magic;
  std::uint32_t version = order_version;
  std::uint32_t port = 0;           ///< of the responding side's call server, where the test makes calls
  std::uint64_t count = 0;          ///< report: messages that came
  RemoteRegion region;              ///< of the responding side
  std::array<char, 256> problem{};  ///< a sentence where it can't; else empty
};
static_assert(std::is_trivially_copyable_v<Answer> && std::is_standard_layout_v<Answer>);

/// The order or answer that `bytes` are. Test messages are zeros, so they are neither, whatever their length.
template <typename Message>
std::optional<Message> read_as(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() != sizeof(Message)) [[likely]]
    return std::nullopt;
  Message message;
  std::memcpy(&message, bytes.data(), sizeof message);
  if (message.magic != order_magic) return std::nullopt;
  return message;
}

}  // namespace verbena::tools
