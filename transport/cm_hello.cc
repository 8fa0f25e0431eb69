// SPDX-License-Identifier: Apache-2.0
#include "transport/cm_hello.h"

#include <algorithm>
#include <cstring>

namespace verbena::transport {
namespace {

struct Beginning {  // as a Hello's
  std::uint32_t magic;
  std::uint16_t version;
  std::uint8_t kind;
  std::uint8_t device_kind;
};

struct Offer {
  Beginning beginning;
  std::uint32_t eager_size;
  std::uint16_t request_depth;
  std::uint16_t call_depth;
  std::uint8_t large_depth;
  std::uint8_t mtu;
  std::uint8_t reads_accepted;
  std::uint8_t features;
  std::uint16_t lid;
  std::uint16_t epoch;
  std::uint64_t sequence_and_bytes;  // 24 bits of packet sequence, 40 of large_bytes − 1
  std::uint8_t gid[16];
  std::uint8_t nonce[8];
};
static_assert(sizeof(Offer) == cm_offer_size && offsetof(Offer, sequence_and_bytes) == 24 &&
              offsetof(Offer, nonce) == 48);

struct Refusal {
  Beginning beginning;
  char text[140];
};
static_assert(sizeof(Refusal) == cm_refusal_size);

constexpr int sequence_bits = 24;
constexpr std::uint64_t sequence_mask = (1u << sequence_bits) - 1;
constexpr std::size_t nonce_bytes = sizeof Offer::nonce;

Beginning beginning_of(const Hello& hello, HelloKind kind) {
  return {hello_magic, hello.version, static_cast<std::uint8_t>(kind), hello.device_kind};
}

/// A hello with the beginning's fields; nothing where it isn't one of `kind`.
std::optional<Hello> begin(const Beginning& beginning, HelloKind kind) noexcept {
  if (beginning.magic != hello_magic) return std::nullopt;
  Hello hello;
  hello.kind = kind;
  hello.version = beginning.version;
  if (beginning.version != protocol_version) return hello;
  if (beginning.kind != static_cast<std::uint8_t>(kind) || beginning.device_kind > 1) return std::nullopt;
  hello.device_kind = beginning.device_kind;
  return hello;
}

}  // namespace

Hello shortened(Hello hello) noexcept {
  hello.features &= 0xff;
  hello.epoch &= 0xffff;
  std::fill(hello.nonce.begin() + nonce_bytes, hello.nonce.end(), std::uint8_t{0});
  return hello;
}

void encode_offer(const Hello& hello, std::span<std::byte, cm_offer_size> to) noexcept {
  Offer offer{};
  offer.beginning = beginning_of(hello, HelloKind::offer);
  offer.eager_size = hello.eager_size;
  offer.request_depth = hello.request_depth;
  offer.call_depth = hello.call_depth;
  offer.large_depth = static_cast<std::uint8_t>(hello.large_depth);
  offer.mtu = hello.facts.mtu;
  offer.reads_accepted = hello.facts.reads_accepted;
  offer.features = static_cast<std::uint8_t>(hello.features);
  offer.lid = hello.facts.lid;
  offer.epoch = static_cast<std::uint16_t>(hello.epoch);
  offer.sequence_and_bytes = (hello.facts.packet_sequence & sequence_mask) | (hello.large_bytes - 1)
                                                                                 << sequence_bits;
  std::ranges::copy(hello.facts.gid, offer.gid);
  std::copy_n(hello.nonce.begin(), nonce_bytes, offer.nonce);
  std::memcpy(to.data(), &offer, sizeof offer);
}

std::optional<Hello> decode_offer(std::span<const std::byte> bytes, std::uint32_t qp_number) noexcept {
  if (bytes.size() < cm_offer_size) return std::nullopt;
  Offer offer;
  std::memcpy(&offer, bytes.data(), sizeof offer);
  auto hello = begin(offer.beginning, HelloKind::offer);
  if (!hello || hello->version != protocol_version) return hello;
  hello->features = offer.features;
  hello->eager_size = offer.eager_size;
  hello->request_depth = offer.request_depth;
  hello->call_depth = offer.call_depth;
  hello->large_depth = offer.large_depth;
  hello->large_bytes = (offer.sequence_and_bytes >> sequence_bits) + 1;
  hello->epoch = offer.epoch;
  hello->facts.qp_number = qp_number;
  hello->facts.packet_sequence = static_cast<std::uint32_t>(offer.sequence_and_bytes & sequence_mask);
  hello->facts.lid = offer.lid;
  hello->facts.mtu = offer.mtu;
  hello->facts.reads_accepted = offer.reads_accepted;
  std::ranges::copy(offer.gid, hello->facts.gid.begin());
  std::ranges::copy(offer.nonce, hello->nonce.begin());
  return hello;
}

void encode_refusal(const Hello& hello, std::span<std::byte, cm_refusal_size> to) noexcept {
  Refusal refusal{};
  refusal.beginning = beginning_of(hello, HelloKind::refuse);
  hello.text.copy(refusal.text, sizeof refusal.text - 1);
  std::memcpy(to.data(), &refusal, sizeof refusal);
}

std::optional<Hello> decode_refusal(std::span<const std::byte> bytes) {
  if (bytes.size() < cm_refusal_size) return std::nullopt;
  Refusal refusal;
  std::memcpy(&refusal, bytes.data(), sizeof refusal);
  auto hello = begin(refusal.beginning, HelloKind::refuse);
  if (!hello || hello->version != protocol_version) return hello;
  hello->text.assign(refusal.text, ::strnlen(refusal.text, sizeof refusal.text - 1));
  std::ranges::replace_if(
      hello->text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');  // it may reach a terminal
  return hello;
}

}  // namespace verbena::transport
