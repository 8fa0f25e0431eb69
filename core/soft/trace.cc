// SPDX-License-Identifier: Apache-2.0
#include "core/soft/trace.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/soft/network_header.h"
#include "verbena/error.h"

namespace verbena::core::soft {
namespace {

// The pcap format's header; every machine reads either byte order.
struct FileHeader {
  std::uint32_t magic = 0xa1b2'3c4d;  // times in nanoseconds
  std::uint16_t major = 2;
  std::uint16_t minor = 4;
  std::uint32_t zone = 0;
  std::uint32_t accuracy = 0;
  std::uint32_t longest = 65535;
  std::uint32_t link = 1;  // Ethernet
};
static_assert(sizeof(FileHeader) == 24);

struct RecordHeader {
  std::uint32_t seconds;
  std::uint32_t nanoseconds;
  std::uint32_t kept;
  std::uint32_t length;
};

constexpr std::size_t ethernet_size = 14;
constexpr std::size_t udp_size = 8;
constexpr std::size_t base_size = 12;
constexpr std::size_t crc_size = 4;
constexpr std::uint16_t roce_port = 4791;
constexpr std::uint16_t first_source_port = 0xc000;

/// CRC-32 as Ethernet has it, which is also RoCE's invariant CRC.
class Crc {
 public:
  void add(std::span<const std::byte> bytes) noexcept {
    for (const std::byte byte : bytes) add(byte);
  }
  void add(std::byte byte) noexcept {
    value_ = table()[(value_ ^ std::to_integer<std::uint32_t>(byte)) & 0xff] ^ value_ >> 8;
  }
  std::uint32_t value() const noexcept { return ~value_; }

 private:
  static const std::array<std::uint32_t, 256>& table() noexcept {
    static const std::array<std::uint32_t, 256> all = [] {
      constexpr std::uint32_t polynomial = 0xedb8'8320;
      std::array<std::uint32_t, 256> made{};
      for (std::uint32_t i = 0; i < made.size(); ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? polynomial : 0);
        made[i] = value;
      }
      return made;
    }();
    return all;
  }
  std::uint32_t value_ = ~0u;
};

class Writer {
 public:
  explicit Writer(std::span<std::byte> to) noexcept : to_(to) {}
  template <class T>
  void put(const T& value) noexcept {
    put(std::as_bytes(std::span(&value, 1)));
  }
  void put(std::span<const std::byte> bytes) noexcept {
    std::copy(bytes.begin(), bytes.end(), to_.begin() + static_cast<std::ptrdiff_t>(size_));
    size_ += bytes.size();
  }
  std::size_t size() const noexcept { return size_; }

 private:
  std::span<std::byte> to_;
  std::size_t size_ = 0;
};

/// Made of an address's end, and of the bit that says that nobody was given it.
std::array<std::uint8_t, 6> ethernet_address(const ibv_gid& gid) noexcept {
  return {0x02, 0x00, gid.raw[12], gid.raw[13], gid.raw[14], gid.raw[15]};
}

struct Udp {
  std::uint16_t source;
  std::uint16_t destination;
  std::uint16_t length;
  std::uint16_t checksum;
};

struct Base {
  std::uint8_t opcode;
  std::uint8_t flags;  // solicited, migrated, pad count, version
  std::uint16_t pkey;
  std::uint32_t destination;
  std::uint32_t psn;
};
static_assert(sizeof(Udp) == udp_size && sizeof(Base) == base_size);

/// Over what no router changes: the changing fields count as ones, and so does a local route header that
/// isn't there.
std::uint32_t invariant_crc(std::span<const std::byte> packet, bool is_ipv4) noexcept {
  constexpr std::byte ones{0xff};
  std::array<std::byte, sizeof(ibv_grh) + udp_size + base_size> masked;
  const std::size_t ip = is_ipv4 ? sizeof(iphdr) : sizeof(ibv_grh);
  const std::size_t headers = ip + udp_size + base_size;
  std::copy_n(packet.begin(), headers, masked.begin());
  if (is_ipv4) {
    masked[1] = masked[8] = masked[10] = masked[11] = ones;  // service, time to live, checksum
  } else {
    masked[0] |= std::byte{0x0f};  // traffic class, flow label
    masked[1] = masked[2] = masked[3] = ones;
    masked[7] = ones;  // hop limit
  }
  masked[ip + 6] = masked[ip + 7] = ones;  // UDP's checksum
  masked[ip + udp_size + 4] = ones;        // congestion marks
  Crc crc;
  for (int i = 0; i < 8; ++i) crc.add(ones);  // the local route header
  crc.add(std::span<const std::byte>(masked).first(headers));
  crc.add(packet.subspan(headers));
  return crc.value();
}

/// UDP's, which IPv6 asks for: over the addresses, the length, the protocol, and all behind IP's header.
std::uint16_t udp_checksum(const DatagramPath& path, std::span<const std::byte> udp) noexcept {
  std::uint32_t sum = 0;
  const auto add = [&](std::span<const std::byte> bytes) {
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
      sum += std::to_integer<std::uint32_t>(bytes[i]) << 8;
      if (i + 1 < bytes.size()) sum += std::to_integer<std::uint32_t>(bytes[i + 1]);
    }
  };
  add(std::as_bytes(std::span(path.source.raw)));
  add(std::as_bytes(std::span(path.destination.raw)));
  sum += static_cast<std::uint32_t>(udp.size()) + IPPROTO_UDP;
  add(udp);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  const auto checksum = static_cast<std::uint16_t>(~sum);
  return htons(checksum != 0 ? checksum : 0xffff);
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error(errc::invalid_argument, "the trace " + path + " can't be written: " + why);
}

bool is_trace(const std::string& path) {
  FileHeader header;
  const FileHeader right;
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  return file && ::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode) &&
         ::read(file.get(), &header, sizeof header) == sizeof header &&
         std::memcmp(&header, &right, sizeof right) == 0;
}

}  // namespace

// The header is there as soon as the file is: another process may write its first packet at once.
void prepare_trace(const std::string& path) {
  if (is_trace(path)) return;
  std::string draft = path + ".XXXXXX";
  const Descriptor file(::mkostemp(draft.data(), O_CLOEXEC));
  if (!file) refuse(path, std::strerror(errno));
  const FileHeader header;
  constexpr mode_t for_this_user = 0600;
  bool is_done = ::write(file.get(), &header, sizeof header) == sizeof header &&
                 ::fchmod(file.get(), for_this_user) == 0;
  if (is_done && ::link(draft.c_str(), path.c_str()) != 0) is_done = errno == EEXIST && is_trace(path);
  const int error = errno;
  ::unlink(draft.c_str());
  if (is_done) return;
  refuse(path, error == EEXIST ? "there is a file that isn't a trace; name another, or remove it"
                               : std::strerror(error));
}

std::unique_ptr<Trace> Trace::from_environment() {
  const char* const path = std::getenv("VERBENA_TRACE");
  if (!path || !*path) return nullptr;
  return std::make_unique<Trace>(path);
}

Trace::Trace(const std::string& path) : path_(path) {
  prepare_trace(path);
  file_ = Descriptor(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file_) refuse(path, std::strerror(errno));
}

void Trace::write(const DatagramPath& path, const BaseHeader& base, std::span<const std::byte> extension,
                  std::span<const std::byte> payload) noexcept {
  const bool is_ipv4 = is_ipv4_mapped(path.source) && is_ipv4_mapped(path.destination);
  const std::size_t pad = -payload.size() & 3;
  const std::size_t udp = udp_size + base_size + extension.size() + payload.size() + pad + crc_size;
  const std::size_t ip = is_ipv4 ? sizeof(iphdr) : sizeof(ibv_grh);
  const std::size_t length = ethernet_size + ip + udp;
  const std::lock_guard guard(mutex_);
  if (has_ended_ || sizeof(RecordHeader) + length > record_.size()) return;
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  Writer writer(record_);
  writer.put(RecordHeader{static_cast<std::uint32_t>(now.tv_sec), static_cast<std::uint32_t>(now.tv_nsec),
                          static_cast<std::uint32_t>(length), static_cast<std::uint32_t>(length)});
  writer.put(ethernet_address(path.destination));
  writer.put(ethernet_address(path.source));
  writer.put(htons(is_ipv4 ? 0x0800 : 0x86dd));
  const std::size_t packet = writer.size();
  is_ipv4 ? writer.put(ipv4_header(path, udp)) : writer.put(ipv6_header(path, udp, IPPROTO_UDP));
  const auto port = static_cast<std::uint16_t>(first_source_port | (base.destination & 0x3fff));
  writer.put(Udp{htons(port), htons(roce_port), htons(static_cast<std::uint16_t>(udp)), 0});
  constexpr std::uint8_t migrated = 0x40;
  writer.put(Base{base.opcode, static_cast<std::uint8_t>((base.solicited ? 0x80 : 0) | migrated | pad << 4),
                  0xffff, htonl(base.destination),
                  htonl((base.wants_acknowledgement ? 0x8000'0000 : 0) | (base.psn & psn_mask))});
  writer.put(extension);
  writer.put(payload);
  constexpr std::array<std::byte, 3> zeros{};
  writer.put(std::span(zeros).first(pad));
  const std::uint32_t crc =
      invariant_crc(std::span<const std::byte>(record_).subspan(packet, writer.size() - packet), is_ipv4);
  writer.put(crc);  // its least byte first, as Ethernet's
  if (!is_ipv4) {
    const std::uint16_t checksum =
        udp_checksum(path, std::span<const std::byte>(record_).subspan(packet + ip, udp));
    std::memcpy(record_.data() + packet + ip + offsetof(Udp, checksum), &checksum, sizeof checksum);
  }
  if (::write(file_.get(), record_.data(), writer.size()) == static_cast<ssize_t>(writer.size())) return;
  has_ended_ = true;
  std::fprintf(stderr, "verbena: the trace %s ends here: %s\n", path_.c_str(), std::strerror(errno));
}

}  // namespace verbena::core::soft
