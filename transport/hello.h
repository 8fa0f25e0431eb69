// SPDX-License-Identifier: Apache-2.0
/// The hello that both sides exchange before a queue pair is brought up: fixed bytes, one version, pure
/// functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/queue_pair.h"

namespace verbena::transport {

inline constexpr std::uint32_t hello_magic = 0x4e425256;  // "VRBN"
inline constexpr std::uint16_t protocol_version = 2;
inline constexpr std::size_t hello_size = 192;
inline constexpr std::size_t proof_size = 32;

/// Over TCP these 192 bytes go both ways (docs/wire.md). rdma_cm carries a shorter offer and another
/// refusal: transport/cm_hello.h.
enum class HelloKind : std::uint8_t { offer = 1, accept = 2, refuse = 3, ready = 4 };

struct Hello {
  std::uint16_t version = protocol_version;
  HelloKind kind = HelloKind::offer;
  std::uint8_t device_kind = 0;  ///< core::DeviceKind
  std::uint32_t features = 0;    ///< transport/wire.h; those that this side doesn't know are ignored
  std::uint32_t eager_size = 0;
  std::uint16_t request_depth = 0;
  std::uint16_t call_depth = 0;
  std::uint16_t large_depth = 0;
  std::uint64_t large_bytes = 0;
  std::uint32_t epoch = 0;
  core::QueuePairFacts facts;
  std::array<std::uint8_t, 16> nonce{};
  std::array<std::uint8_t, proof_size> proof{};  ///< of a shared secret; zero: none is asked for
  std::string text;  ///< a refusal's reason; at most 79 bytes over TCP, 139 by rdma_cm
};

void encode(const Hello& hello, std::span<std::byte, hello_size> to) noexcept;
/// Nothing where the bytes aren't a hello of any version. A hello of another version has only `version`.
std::optional<Hello> decode(std::span<const std::byte, hello_size> bytes);

/// Why `theirs` can't be spoken to, naming both sides' values; empty where it can.
std::string find_mismatch(const Hello& ours, const Hello& theirs);

}  // namespace verbena::transport
