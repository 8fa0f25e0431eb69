// SPDX-License-Identifier: Apache-2.0
/// What messages look like on the wire; docs/wire.md says the same in a table. Little-endian, as all hosts
/// are that Verbena builds for.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace verbena::transport {

static_assert(std::endian::native == std::endian::little, "the headers below are sent as they lie in memory");

/// Each kind draws on one of the receiver's reserves, so that none can use up another's.
enum class Kind : std::uint8_t {
  message = 1,        ///< request reserve: a credit each
  large_message = 2,  ///< request reserve; body: LargeBody
  credit = 3,         ///< control reserve, see budget.h
  release = 4,        ///< release reserve: the large message `token` has been read
  request = 16,       ///< request reserve
  large_request = 17,
  part = 18,   ///< request reserve: of a stream of replies
  more = 19,   ///< request reserve: its caller takes `status` parts more; below 0: none any more
  reply = 32,  ///< reply reserve: whoever calls has reserved it
  large_reply = 33,
};
constexpr bool is_known(std::uint8_t kind) {
  switch (static_cast<Kind>(kind)) {
    case Kind::message:
    case Kind::large_message:
    case Kind::credit:
    case Kind::release:
    case Kind::request:
    case Kind::large_request:
    case Kind::part:
    case Kind::more:
    case Kind::reply:
    case Kind::large_reply:
      return true;
  }
  return false;
}
constexpr bool needs_credit(Kind kind) {
  return kind == Kind::message || kind == Kind::large_message || kind == Kind::request ||
         kind == Kind::large_request || kind == Kind::part || kind == Kind::more;
}
constexpr bool is_large(Kind kind) {
  return kind == Kind::large_message || kind == Kind::large_request || kind == Kind::large_reply;
}
constexpr bool is_call(Kind kind) {
  return static_cast<std::uint8_t>(kind) >= 16;
}

// Flags of a message.
/// Other records follow the first one's body.
inline constexpr std::uint8_t packed_flag = 1;
/// A large request whose payload the receiver reads where it lies: core/lending.h.
inline constexpr std::uint8_t lent_flag = 2;
/// `token` is of a large message that has been read, as if a release of it came before: of kinds that have no
/// token of their own.
inline constexpr std::uint8_t released_flag = 4;

// Features of a hello.
/// This side takes loans.
inline constexpr std::uint32_t borrows_feature = 1;

/// Begins every message. A message is a *frame* of one record or more: the header's own, and those that were
/// queued to the same peer before the frame left.
struct MessageHeader {
  Kind kind;
  std::uint8_t flags;   ///< those above
  std::uint16_t epoch;  ///< of the connection: what comes from an earlier one is dropped
  std::uint32_t
      granted;  ///< messages of the request reserve that the receiver of this may have sent in all, mod 2^32
  std::uint32_t token;  ///< of a large message, and of its release
  std::uint32_t body;   ///< packed: bytes of the first record's body; lent: the loan's generation. Else 0
};
static_assert(sizeof(MessageHeader) == 16 && std::is_trivially_copyable_v<MessageHeader>);

/// Begins each further record of a frame.
struct RecordHeader {
  Kind kind;  ///< message, request or reply
  std::uint8_t reserved[3];
  std::uint32_t body;  ///< bytes
};
static_assert(sizeof(RecordHeader) == 8 && std::is_trivially_copyable_v<RecordHeader>);

/// Where the record behind one that ends at `end` begins: so that payloads lie at multiples of 16.
constexpr std::uint32_t next_record(std::uint32_t end) {
  return (end + 7) / 16 * 16 + 8;
}
constexpr bool may_be_packed(Kind kind) {
  return kind == Kind::message || kind == Kind::request || kind == Kind::part || kind == Kind::more ||
         kind == Kind::reply;
}

/// Follows in calls: 32 bytes of headers, so that an 8-byte call fits into 48 (one cache line of soft0's
/// ring).
struct CallHeader {
  std::uint32_t slot;        ///< of the caller's table of calls
  std::uint32_t generation;  ///< of that slot: a late reply finds another
  std::uint32_t method;      ///< requests
  std::int32_t status;  ///< replies: 0 or an errc; requests: the parts that a stream may have ahead, or 0
};
static_assert(sizeof(CallHeader) == 16 && std::is_trivially_copyable_v<CallHeader>);

/// Where the receiver reads a large message's payload, or one piece of it: up to `max_large_pieces` follow
/// each other.
struct LargeBody {
  std::uint64_t address;
  std::uint32_t length;
  std::uint32_t key;
};
static_assert(sizeof(LargeBody) == 16 && std::is_trivially_copyable_v<LargeBody>);

/// Headers are written and read in whole words: a device that copies the words at once needn't wait for
/// narrower stores to be put together.
inline void write_words(std::byte* to, std::uint64_t first, std::uint64_t second) noexcept {
  std::memcpy(to, &first, sizeof first);
  std::atomic_signal_fence(std::memory_order_acq_rel);  // or the compiler joins them, by way of memory
  std::memcpy(to + sizeof first, &second, sizeof second);
}
struct TwoWords {
  std::uint64_t first, second;
};
inline TwoWords read_words(const std::byte* from) noexcept {
  TwoWords words;
  std::memcpy(&words.first, from, sizeof words.first);
  std::atomic_signal_fence(std::memory_order_acq_rel);
  std::memcpy(&words.second, from + sizeof words.first, sizeof words.second);
  std::atomic_signal_fence(std::memory_order_acq_rel);  // read once
  return words;
}
inline void write_header(std::byte* to, const MessageHeader& header) noexcept {
  write_words(to,
              static_cast<std::uint64_t>(header.kind) | std::uint64_t{header.flags} << 8 |
                  std::uint64_t{header.epoch} << 16 | std::uint64_t{header.granted} << 32,
              header.token | std::uint64_t{header.body} << 32);
}
inline void write_header(std::byte* to, const RecordHeader& header) noexcept {
  const std::uint64_t word = static_cast<std::uint64_t>(header.kind) | std::uint64_t{header.body} << 32;
  std::memcpy(to, &word, sizeof word);
}
inline void write_header(std::byte* to, const CallHeader& header) noexcept {
  write_words(to, header.slot | std::uint64_t{header.generation} << 32,
              header.method | std::uint64_t{static_cast<std::uint32_t>(header.status)} << 32);
}

/// What begins there, as it is now: a peer may map a receive's memory, and change it while it is looked at.
inline MessageHeader read_message_header(const std::byte* from) noexcept {
  const auto [first, second] = read_words(from);
  return {static_cast<Kind>(first),
          static_cast<std::uint8_t>(first >> 8),
          static_cast<std::uint16_t>(first >> 16),
          static_cast<std::uint32_t>(first >> 32),
          static_cast<std::uint32_t>(second),
          static_cast<std::uint32_t>(second >> 32)};
}
inline RecordHeader read_record_header(const std::byte* from) noexcept {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof word);
  std::atomic_signal_fence(std::memory_order_acq_rel);  // read once
  return {static_cast<Kind>(word), {}, static_cast<std::uint32_t>(word >> 32)};
}
inline CallHeader read_call_header(const std::byte* from) noexcept {
  const auto [first, second] = read_words(from);
  return {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(first >> 32),
          static_cast<std::uint32_t>(second), static_cast<std::int32_t>(second >> 32)};
}

inline constexpr std::uint32_t max_large_pieces = 8;
inline constexpr std::size_t headers_size = sizeof(MessageHeader) + sizeof(CallHeader);

}  // namespace verbena::transport
