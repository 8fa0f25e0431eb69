// SPDX-License-Identifier: Apache-2.0
#include "core/soft/queue_pair_trace.h"

#include <arpa/inet.h>
#include <endian.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/copy_bytes.h"
#include "core/soft/gid_table.h"
#include "core/soft/layout.h"
#include "core/soft/limits.h"
#include "core/soft/pieces.h"

namespace verbena::core::soft {
namespace {

namespace op = packet_opcode;

// IBTA's extension headers, in network order.
struct RemoteAddress {
  std::uint32_t address[2];
  std::uint32_t key;
  std::uint32_t length;
};
struct AtomicHeader {
  std::uint32_t address[2];
  std::uint32_t key;
  std::uint32_t swap_add[2];
  std::uint32_t compare[2];
};
struct DatagramExtension {
  std::uint32_t key;
  std::uint32_t source;
};
static_assert(sizeof(RemoteAddress) == 16 && sizeof(AtomicHeader) == 28 && sizeof(DatagramExtension) == 8);

void split(std::uint64_t value, std::uint32_t (&to)[2]) noexcept {
  to[0] = htonl(static_cast<std::uint32_t>(value >> 32));
  to[1] = htonl(static_cast<std::uint32_t>(value));
}

// Syndromes of an acknowledgement.
constexpr std::uint8_t acknowledged = 0x1f;  // without a count of credits
constexpr std::uint8_t not_ready = 0x20;
constexpr std::uint8_t invalid_request = 0x61;
constexpr std::uint8_t access_error = 0x62;
constexpr std::uint8_t operation_error = 0x63;

std::uint8_t refusal(ibv_wc_status status) noexcept {
  switch (status) {
    case IBV_WC_REM_ACCESS_ERR:
      return access_error;
    case IBV_WC_REM_INV_REQ_ERR:
      return invalid_request;
    case IBV_WC_REM_OP_ERR:
      return operation_error;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return not_ready;
    default:
      return 0;  // nobody has answered
  }
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

/// Extension headers, one behind the other.
class Extension {
 public:
  template <class T>
  void add(const T& header) noexcept {
    std::memcpy(bytes_.data() + size_, &header, sizeof header);
    size_ += sizeof header;
  }
  operator std::span<const std::byte>() const noexcept { return std::span(bytes_).first(size_); }

 private:
  std::array<std::byte, 64> bytes_;
  std::size_t size_ = 0;
};

bool is_write(ibv_wr_opcode opcode) noexcept {
  return opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}
bool is_atomic(ibv_wr_opcode opcode) noexcept {
  return opcode == IBV_WR_ATOMIC_CMP_AND_SWP || opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}
bool is_local(ibv_wr_opcode opcode) noexcept {
  return opcode == IBV_WR_LOCAL_INV || opcode == IBV_WR_BIND_MW;
}

std::uint8_t opcode_of(const SendRequest& request, bool is_first, bool is_last) noexcept {
  const bool has_immediate = request.flags & slot_flag::immediate;
  const bool invalidates = request.flags & slot_flag::invalidate;
  if (is_write(request.opcode)) {
    if (!is_last) return is_first ? op::write_first : op::write_middle;
    if (is_first) return has_immediate ? op::write_only_imm : op::write_only;
    return has_immediate ? op::write_last_imm : op::write_last;
  }
  if (!is_last) return is_first ? op::send_first : op::send_middle;
  if (invalidates) return is_first ? op::send_only_invalidate : op::send_last_invalidate;
  if (is_first) return has_immediate ? op::send_only_imm : op::send_only;
  return has_immediate ? op::send_last_imm : op::send_last;
}

RemoteAddress remote_address(const SendRequest& request) noexcept {
  RemoteAddress header{};
  split(request.remote_address, header.address);
  header.key = htonl(request.rkey);
  header.length = htonl(request.length);
  return header;
}

/// Of one packet's payload; the bytes are looked at where they lie, or put together.
class Payload {
 public:
  Payload(std::span<const ibv_sge> pieces, std::uint32_t offset, std::uint32_t length) noexcept {
    for_each_part(pieces, offset, length, [&](const ibv_sge&, const std::byte* from, std::uint32_t part) {
      std::memcpy(bytes_.data() + size_, from, part);
      size_ += part;
      return true;
    });
  }
  operator std::span<const std::byte>() const noexcept { return std::span(bytes_).first(size_); }

 private:
  std::array<std::byte, longest_datagram> bytes_;
  std::size_t size_ = 0;
};

}  // namespace

void QueuePairTrace::begin() noexcept {
  if (has_begun_) return;
  has_begun_ = true;
  psn_ = attributes_.sq_psn & psn_mask;
  const ibv_ah_attr& way = attributes_.ah_attr;
  path_.source = path_.destination = host_gid_once();
  if (!way.is_global) return;
  if (const auto own = gid_at(way.grh.sgid_index)) path_.source = own->gid;
  path_.destination = way.grh.dgid;
}

void QueuePairTrace::reset() noexcept {
  has_begun_ = false;
  completed_ = 0;
  pending_.clear();
}

std::uint8_t QueuePairTrace::service() const noexcept {
  return qp_.qp_type == IBV_QPT_UC ? op::of_unreliable_connection : 0;
}

void QueuePairTrace::request(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept {
  begin();
  if (is_local(request.opcode)) {
    pending_.push_back({false, psn_});
    return;
  }
  const bool is_answered = request.opcode == IBV_WR_RDMA_READ || is_atomic(request.opcode);
  if (qp_.qp_type == IBV_QPT_UD) {
    datagram(request, pieces);
  } else if (request.opcode == IBV_WR_RDMA_READ) {
    read(request, pieces);
  } else if (is_atomic(request.opcode)) {
    atomic(request, pieces);
  } else {
    message(request, pieces);
  }
  pending_.push_back({qp_.qp_type == IBV_QPT_RC && !is_answered, (psn_ - 1) & psn_mask});
}

void QueuePairTrace::done() noexcept {
  if (pending_.empty()) return;
  const Pending first = pending_.front();
  pending_.pop_front();
  if (!first.wants_acknowledgement) return;
  ++completed_;
  acknowledge(acknowledged, first.psn);
}

void QueuePairTrace::failed(ibv_wc_status status, const SendRequest* request,
                            std::span<const ibv_sge> pieces) noexcept {
  begin();
  std::uint32_t psn = psn_;
  if (!request) {
    if (pending_.empty()) return;
    psn = pending_.front().psn;
  } else if (status == IBV_WC_LOC_PROT_ERR || status == IBV_WC_LOC_QP_OP_ERR || is_local(request->opcode)) {
    return;  // it never left
  } else if (request->opcode == IBV_WR_RDMA_READ) {
    read_request(*request);
  } else if (is_atomic(request->opcode)) {
    atomic_request(*request);
  } else {
    message(*request, pieces);
  }
  if (const std::uint8_t syndrome = refusal(status)) acknowledge(syndrome, psn);
}

// `emit`: called for each packet with its part of the pieces, and whether it is the first and the last.
template <class Emit>
void QueuePairTrace::for_each_packet(std::uint32_t total, Emit emit) noexcept {
  const std::uint32_t most = bytes_of_packet();
  std::uint32_t offset = 0;
  do {
    const std::uint32_t length = std::min(total - offset, most);
    emit(offset, length, offset == 0, offset + length == total);
    psn_ = (psn_ + 1) & psn_mask;
    offset += length;
  } while (offset < total);
}

void QueuePairTrace::message(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept {
  for_each_packet(
      request.length, [&](std::uint32_t offset, std::uint32_t length, bool is_first, bool is_last) {
        Extension extension;
        if (is_write(request.opcode) && is_first) extension.add(remote_address(request));
        if (is_last && (request.flags & slot_flag::immediate)) extension.add(request.immediate);
        if (is_last && (request.flags & slot_flag::invalidate)) extension.add(htonl(request.immediate));
        send(static_cast<std::uint8_t>(service() | opcode_of(request, is_first, is_last)), psn_, extension,
             Payload(pieces, offset, length), is_last, request.flags & slot_flag::solicited);
      });
}

void QueuePairTrace::datagram(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept {
  path_ = request.path;
  const std::uint64_t own = 0x8000'0000;  // IBTA: such a key means the queue pair's own
  const auto key =
      static_cast<std::uint32_t>(request.compare_add & own ? attributes_.qkey : request.compare_add);
  const bool has_immediate = request.flags & slot_flag::immediate;
  Extension extension;
  extension.add(DatagramExtension{htonl(key), htonl(qp_.qp_num)});
  if (has_immediate) extension.add(request.immediate);
  const std::uint32_t length = std::min(request.length, longest_datagram);
  trace_.write(
      path_,
      {static_cast<std::uint8_t>(op::of_datagrams | (has_immediate ? op::send_only_imm : op::send_only)),
       (request.flags & slot_flag::solicited) != 0, false, request.rkey, psn_},
      extension, Payload(pieces, 0, length));
  psn_ = (psn_ + 1) & psn_mask;
}

void QueuePairTrace::read_request(const SendRequest& request) noexcept {
  send(op::read_request, psn_, bytes_of(remote_address(request)), {}, true, false);
}

void QueuePairTrace::read(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept {
  read_request(request);
  ++completed_;
  for_each_packet(request.length,
                  [&](std::uint32_t offset, std::uint32_t length, bool is_first, bool is_last) {
                    const std::uint8_t opcode = is_first ? (is_last ? op::read_only : op::read_first)
                                                         : (is_last ? op::read_last : op::read_middle);
                    Extension extension;  // the ones in the middle acknowledge nothing
                    if (opcode != op::read_middle)
                      extension.add(htonl(std::uint32_t{acknowledged} << 24 | completed_));
                    answer(opcode, psn_, extension, Payload(pieces, offset, length));
                  });
}

void QueuePairTrace::atomic_request(const SendRequest& request) noexcept {
  const bool compares = request.opcode == IBV_WR_ATOMIC_CMP_AND_SWP;
  AtomicHeader header{};
  split(request.remote_address, header.address);
  header.key = htonl(request.rkey);
  split(compares ? request.swap : request.compare_add, header.swap_add);
  if (compares) split(request.compare_add, header.compare);
  send(compares ? op::compare_swap : op::fetch_add, psn_, bytes_of(header), {}, true, false);
}

void QueuePairTrace::atomic(const SendRequest& request, std::span<const ibv_sge> pieces) noexcept {
  atomic_request(request);
  ++completed_;
  std::uint64_t old = 0;
  const Payload payload(pieces, 0, sizeof old);
  const std::span<const std::byte> bytes = payload;
  std::memcpy(&old, bytes.data(), std::min(bytes.size(), sizeof old));
  struct {
    std::uint32_t acknowledgement;
    std::uint32_t old[2];
  } header{htonl(std::uint32_t{acknowledged} << 24 | completed_), {}};
  split(old, header.old);
  answer(op::atomic_acknowledge, psn_, bytes_of(header), {});
  psn_ = (psn_ + 1) & psn_mask;
}

void QueuePairTrace::send(std::uint8_t opcode, std::uint32_t psn, std::span<const std::byte> extension,
                          std::span<const std::byte> payload, bool is_last, bool solicited) noexcept {
  trace_.write(
      path_,
      {opcode, is_last && solicited, is_last && qp_.qp_type == IBV_QPT_RC, attributes_.dest_qp_num, psn},
      extension, payload);
}

void QueuePairTrace::answer(std::uint8_t opcode, std::uint32_t psn, std::span<const std::byte> extension,
                            std::span<const std::byte> payload) noexcept {
  trace_.write({path_.destination, path_.source}, {opcode, false, false, qp_.qp_num, psn}, extension,
               payload);
}

void QueuePairTrace::acknowledge(std::uint8_t syndrome, std::uint32_t psn) noexcept {
  answer(op::acknowledge, psn, bytes_of(htonl(std::uint32_t{syndrome} << 24 | (completed_ & psn_mask))), {});
}

}  // namespace verbena::core::soft
