// SPDX-License-Identifier: Apache-2.0
#include "core/soft/network_header.h"

#include <arpa/inet.h>

#include <cstring>

namespace verbena::core::soft {
namespace {

constexpr std::uint8_t hop_limit = 64;
constexpr std::size_t ipv4_offset = sizeof(ibv_grh) - sizeof(iphdr);
static_assert(sizeof(iphdr) == 20);

// UDP, the base transport header with the datagram's own, the invariant CRC.
constexpr std::uint32_t around_payload = 8 + 12 + 8 + 4;

ibv_gid mapped(std::uint32_t address) noexcept {
  ibv_gid gid{};
  gid.raw[10] = gid.raw[11] = 0xff;
  std::memcpy(gid.raw + 12, &address, sizeof address);
  return gid;
}

std::uint32_t address_of(const ibv_gid& gid) noexcept {
  std::uint32_t address = 0;
  std::memcpy(&address, gid.raw + 12, sizeof address);
  return address;
}

bool reads_as_ipv4(const ibv_grh& header, iphdr& ip) noexcept {
  std::memcpy(&ip, reinterpret_cast<const std::byte*>(&header) + ipv4_offset, sizeof ip);
  return ip.version == 4 && ip.ihl == sizeof(iphdr) / 4 && ntohl(header.version_tclass_flow) >> 28 != 6 &&
         internet_checksum(reinterpret_cast<const std::byte*>(&ip), sizeof ip) == 0;
}

}  // namespace

iphdr ipv4_header(const DatagramPath& path, std::size_t length) noexcept {
  iphdr ip{};
  ip.version = 4;
  ip.ihl = sizeof(iphdr) / 4;
  ip.tot_len = htons(static_cast<std::uint16_t>(sizeof ip + length));
  ip.frag_off = htons(IP_DF);
  ip.ttl = hop_limit;
  ip.protocol = IPPROTO_UDP;
  ip.saddr = address_of(path.source);
  ip.daddr = address_of(path.destination);
  ip.check = internet_checksum(reinterpret_cast<const std::byte*>(&ip), sizeof ip);
  return ip;
}

ibv_grh ipv6_header(const DatagramPath& path, std::size_t length, std::uint8_t next_header) noexcept {
  ibv_grh grh{};
  constexpr std::uint32_t ip_version = 6;
  grh.version_tclass_flow = htonl(ip_version << 28);
  grh.paylen = htons(static_cast<std::uint16_t>(length));
  grh.next_hdr = next_header;
  grh.hop_limit = hop_limit;
  grh.sgid = path.source;
  grh.dgid = path.destination;
  return grh;
}

bool is_ipv4_mapped(const ibv_gid& gid) noexcept {
  static constexpr std::uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, prefix, sizeof prefix) == 0;
}

std::uint16_t internet_checksum(const std::byte* header, std::size_t length) noexcept {
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at + 1 < length; at += 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, header + at, sizeof word);
    sum += word;
  }
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

NetworkHeader network_header(const DatagramPath& path, std::uint32_t payload) noexcept {
  NetworkHeader bytes{};
  if (is_ipv4_mapped(path.source) && is_ipv4_mapped(path.destination)) {
    const iphdr ip = ipv4_header(path, around_payload + payload);
    std::memcpy(bytes.data() + ipv4_offset, &ip, sizeof ip);
  } else {
    constexpr std::uint8_t base_transport_header = 0x1b;  // IBTA: what follows
    const ibv_grh grh = ipv6_header(path, payload, base_transport_header);
    std::memcpy(bytes.data(), &grh, sizeof grh);
  }
  return bytes;
}

DatagramPath path_of(const ibv_grh& header) noexcept {
  iphdr ip;
  if (reads_as_ipv4(header, ip)) return {mapped(ip.saddr), mapped(ip.daddr)};
  return {header.sgid, header.dgid};
}

}  // namespace verbena::core::soft
