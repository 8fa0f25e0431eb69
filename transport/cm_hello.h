// SPDX-License-Identifier: Apache-2.0
/// The hellos in the sizes that rdma_cm's private data leaves: 56 bytes to ask, 196 to accept, 148 to reject.
///
/// Accepting carries the whole Hello (192 bytes). Asking carries an offer, refusing a refusal; both begin as
/// a Hello does, so that another version is told apart in each. Little-endian:
///
/// | offer | bytes | |                                   | refusal | bytes | |
/// |---|---|---|---                                      |---|---|---|
/// | 0  | 4  | magic                                     | 0 | 4   | magic
/// | 4  | 2  | version                                   | 4 | 2   | version
/// | 6  | 1  | kind: offer                               | 6 | 1   | kind: refuse
/// | 7  | 1  | device kind                               | 7 | 1   | device kind
/// | 8  | 4  | eager_size                                | 8 | 140 | the reason, ended by a zero
/// | 12 | 2  | request_depth
/// | 14 | 2  | call_depth
/// | 16 | 1  | large_depth
/// | 17 | 1  | mtu
/// | 18 | 1  | reads_accepted
/// | 19 | 1  | features, the lower 8
/// | 20 | 2  | lid
/// | 22 | 2  | epoch (messages carry no more of it)
/// | 24 | 3  | packet sequence
/// | 27 | 5  | large_bytes − 1
/// | 32 | 16 | gid
/// | 48 | 8  | nonce, its first half
///
/// The queue pair's number is rdma_cm's own qp_num. Reserved for the proof of a shared secret, which has no
/// room beside an offer: a refusal that begins its reason with a challenge, and a second request of kind 5 (8
/// to 23: the challenge, 24 to 55: the proof) for the offer made before. Until then who wants a secret meets
/// over TCP.
#pragma once

#include "transport/hello.h"

namespace verbena::transport {

inline constexpr std::size_t cm_offer_size = 56;
inline constexpr std::size_t cm_refusal_size = 148;

/// What the offer leaves of `hello`: both sides must reckon with the same.
Hello shortened(Hello hello) noexcept;
void encode_offer(const Hello& hello, std::span<std::byte, cm_offer_size> to) noexcept;
/// `qp_number` as rdma_cm gave it. Nothing where the bytes aren't an offer; of another version only
/// `version`.
std::optional<Hello> decode_offer(std::span<const std::byte> bytes, std::uint32_t qp_number) noexcept;

void encode_refusal(const Hello& refusal, std::span<std::byte, cm_refusal_size> to) noexcept;
std::optional<Hello> decode_refusal(std::span<const std::byte> bytes);

}  // namespace verbena::transport
