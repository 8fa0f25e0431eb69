// SPDX-License-Identifier: Apache-2.0
#include "transport/hello.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/device.h"

namespace verbena::transport {
namespace {

// The bytes on the wire; docs/wire.md has the table.
struct Layout {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint8_t kind;
  std::uint8_t device_kind;
  std::uint32_t features;
  std::uint32_t eager_size;
  std::uint16_t request_depth;
  std::uint16_t call_depth;
  std::uint16_t large_depth;
  std::uint16_t lid;
  std::uint64_t large_bytes;
  std::uint32_t epoch;
  std::uint32_t qp_number;
  std::uint32_t packet_sequence;
  std::uint8_t mtu;
  std::uint8_t reads_accepted;
  std::uint16_t reserved;
  std::uint8_t gid[16];
  std::uint8_t nonce[16];
  std::uint8_t proof[proof_size];
  char text[80];
};
static_assert(sizeof(Layout) == hello_size && offsetof(Layout, gid) == 48 && offsetof(Layout, text) == 112);

const char* kind_name(std::uint8_t kind) {
  return kind == static_cast<std::uint8_t>(core::DeviceKind::software) ? "soft0" : "an RDMA device";
}

bool is_in_range(const Hello& hello) {
  return hello.facts.qp_number < 1u << 24 && hello.facts.packet_sequence < 1u << 24 && hello.facts.mtu >= 1 &&
         hello.facts.mtu <= 5 && hello.request_depth > 0 && hello.call_depth > 0 && hello.large_depth > 0 &&
         hello.eager_size >= 64;
}

}  // namespace

void encode(const Hello& hello, std::span<std::byte, hello_size> to) noexcept {
  Layout layout{};
  layout.magic = hello_magic;
  layout.version = hello.version;
  layout.kind = static_cast<std::uint8_t>(hello.kind);
  layout.device_kind = hello.device_kind;
  layout.features = hello.features;
  layout.eager_size = hello.eager_size;
  layout.request_depth = hello.request_depth;
  layout.call_depth = hello.call_depth;
  layout.large_depth = hello.large_depth;
  layout.lid = hello.facts.lid;
  layout.large_bytes = hello.large_bytes;
  layout.epoch = hello.epoch;
  layout.qp_number = hello.facts.qp_number;
  layout.packet_sequence = hello.facts.packet_sequence;
  layout.mtu = hello.facts.mtu;
  layout.reads_accepted = hello.facts.reads_accepted;
  std::ranges::copy(hello.facts.gid, layout.gid);
  std::ranges::copy(hello.nonce, layout.nonce);
  std::ranges::copy(hello.proof, layout.proof);
  hello.text.copy(layout.text, sizeof layout.text - 1);
  std::memcpy(to.data(), &layout, sizeof layout);
}

std::optional<Hello> decode(std::span<const std::byte, hello_size> bytes) {
  Layout layout;
  std::memcpy(&layout, bytes.data(), sizeof layout);
  if (layout.magic != hello_magic) return std::nullopt;
  Hello hello;
  hello.version = layout.version;
  if (layout.version != protocol_version) return hello;
  if (layout.kind < 1 || layout.kind > 4 || layout.device_kind > 1) return std::nullopt;
  hello.kind = static_cast<HelloKind>(layout.kind);
  hello.device_kind = layout.device_kind;
  hello.features = layout.features;
  hello.eager_size = layout.eager_size;
  hello.request_depth = layout.request_depth;
  hello.call_depth = layout.call_depth;
  hello.large_depth = layout.large_depth;
  hello.large_bytes = layout.large_bytes;
  hello.epoch = layout.epoch;
  hello.facts.qp_number = layout.qp_number;
  hello.facts.packet_sequence = layout.packet_sequence;
  hello.facts.lid = layout.lid;
  hello.facts.mtu = layout.mtu;
  hello.facts.reads_accepted = layout.reads_accepted;
  std::ranges::copy(layout.gid, hello.facts.gid.begin());
  std::ranges::copy(layout.nonce, hello.nonce.begin());
  std::ranges::copy(layout.proof, hello.proof.begin());
  hello.text.assign(layout.text, ::strnlen(layout.text, sizeof layout.text - 1));
  std::ranges::replace_if(
      hello.text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');  // it may reach a terminal
  return hello;
}

std::string find_mismatch(const Hello& ours, const Hello& theirs) {
  if (theirs.version != ours.version) {
    return fmt::format("it speaks protocol version {}, this side {}", theirs.version, ours.version);
  }
  if (theirs.device_kind != ours.device_kind) {
    return fmt::format("it uses {}, this side {}: choose the same", kind_name(theirs.device_kind),
                       kind_name(ours.device_kind));
  }
  constexpr auto software = static_cast<std::uint8_t>(core::DeviceKind::software);
  if (ours.device_kind == software && theirs.facts.gid != ours.facts.gid) {
    return "soft0 reaches processes of one host only; this is another";
  }
  if (!is_in_range(ours) || !is_in_range(theirs)) return "a hello has values that are out of range";
  return {};
}

}  // namespace verbena::transport
