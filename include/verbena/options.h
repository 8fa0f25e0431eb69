// SPDX-License-Identifier: Apache-2.0
/// What a Loop is given before it opens anything, and what that will cost in pinned memory.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace verbena {

/// The pinned bytes of a Loop, itemised. Every item is a product of declared options, so that no load can pin
/// more, and none of the reserves can be used up by another: a full request queue can't stop replies. Regions
/// that the program allocates or shares come on top; they are the program's own.
struct Budget {
  std::size_t request_receives = 0;  ///< peers × request_depth receive buffers
  std::size_t reply_receives =
      0;  ///< peers × call_depth: a caller reserves its reply's receive before it calls
  std::size_t release_receives = 0;  ///< peers × large_depth: word that a large message has been read
  std::size_t control_receives = 0;  ///< peers × 3: credit messages (docs/wire.md has the proof)
  std::size_t receive_slack =
      0;  ///< receives that are out of the queue until a batch of them is posted again
  std::size_t request_sends = 0;   ///< peers × (request_depth + signal interval) buffers for copied messages
  std::size_t reply_sends = 0;     ///< peers × (call_depth + signal interval) buffers for copied replies
  std::size_t large_requests = 0;  ///< large_bytes: where large requests and messages are read to
  std::size_t large_replies = 0;   ///< large_bytes: where large replies are read to
  std::size_t large_copies = 0;    ///< large_bytes: our large replies until the peer has read them
  std::size_t pool = 0;            ///< pool_bytes
  std::size_t page_rounding = 0;   ///< each pool is a whole number of pages

  std::size_t total() const noexcept;
  /// A line an item, in bytes, for logs.
  std::string to_string() const;
};

struct Options {
  /// "mlx5_0", "rxe1", "soft0"; empty: the best real device with an active port, else soft0.
  std::string device;

  /// Connections that a Loop holds at most; one more is refused with a reason.
  std::uint32_t peers = 16;
  /// Bytes of a message (headers aside) that is copied through pools; a longer one is read by its receiver.
  std::uint32_t eager_size = 4096;
  /// Calls and messages whose end the program waits for are read already from so many bytes on, where
  /// eager_size would let them be copied. 0: from where reading is cheaper, as measured on the device when
  /// this process opens it first (Connection::explain() tells). At least 65.
  std::uint32_t read_from = 0;
  /// Messages and requests under way from one peer to the other, each way.
  std::uint32_t request_depth = 64;
  /// Calls that wait for their reply, a peer, each way.
  std::uint32_t call_depth = 64;
  /// Large messages that wait to be read by the peer, each way.
  std::uint32_t large_depth = 8;
  /// Operations (sends, puts, gets, atomics) of the program under way, a peer.
  std::uint32_t send_depth = 128;
  /// Memory for large messages: the longest message, and the most that is being read or handled at once.
  std::size_t large_bytes = std::size_t{16} << 20;

  /// Registrations of the program's own memory (that of large messages, and of puts and gets outside of
  /// Regions) that are kept for its next use, in bytes; the least recently used go first. They come on top of
  /// the budget; 0: memory is registered for each use. docs/registration-cache.md tells how a change of the
  /// memory's mapping is noticed.
  std::size_t kept_registrations = std::size_t{64} << 30;

  /// Memory for the program to build messages in: Memory::pool(), verbena/pool.h. A multiple of 2 MiB lies in
  /// huge pages where the system has some to give.
  std::size_t pool_bytes = 0;

  /// On one host (soft0), a request that is longer than eager_size and lies in a Region that its caller has
  /// allocated (Memory::allocate), or in its pool, is *lent*: the handler reads the caller's pages where they
  /// lie, and nothing is copied. Both sides have to want it. A peer that isn't trusted may change the bytes
  /// while they are read, as it may those of any message in memory that it maps.
  bool lend = true;

  /// Never sleep: run() polls for ever. Otherwise it polls `spin` long after the last event, then sleeps
  /// until one.
  bool busy_poll = false;
  std::chrono::microseconds spin{50};

  /// Listens at a port that other loops of this user may listen at too, each with this set: the kernel
  /// spreads the peers over them. Over TCP alone: rdma_cm can't share a port. rpc::ServerGroup sets it.
  bool share_port = false;

  /// From connect() to a connection or an error; also how long a listener waits for the peer's part
  /// of it.
  std::chrono::milliseconds connect_timeout{3000};
  /// How long the device waits for the peer's acknowledgement: 4.096 µs × 2^n a try; 14 is 67 ms.
  std::uint8_t ack_timeout_exponent = 14;
  /// Further tries; at most 6.
  std::uint8_t retries = 3;
  /// A connection on which nothing has arrived or completed for so long is probed, by an empty write; 0:
  /// never. So a dead host, or a cut link, ends a quiet connection (retry_exceeded) within
  /// 2 × keep_alive + 4 × 4.096 µs × 2^ack_timeout_exponent × (retries + 1), by default 3.1 s. The 4 is what
  /// devices may add to a timeout. The peer's device answers, not its program: one that hangs, or is stopped,
  /// keeps its connections; deadlines find that. The loop has to be polled or run. At most an hour.
  std::chrono::milliseconds keep_alive{1000};

  /// Calls of which one has its time taken (Loop::snapshot()), by chance: 1 is every call, 0 none. Taking it
  /// reads the clock twice a side.
  std::uint32_t latency_sample = 64;
  /// Answers `verbena top`, run by the same user or by root on this host.
  bool observable = true;

  /// For servers of many clients that say little at a time: short messages, few of them under way a client,
  /// so that `peers` of them fit into little memory (docs/many-clients.md has the figures). `peers`: 1 to
  /// 4095. Its clients do well to take the same depths: each side's rings are as long as its own.
  static Options many_peers(std::uint32_t peers);

  /// What these options pin, to the byte, before anything is opened.
  Budget budget() const;
  /// Throws Error (invalid_argument) naming the first option that is out of range, its value and its range.
  void validate() const;
};

}  // namespace verbena
