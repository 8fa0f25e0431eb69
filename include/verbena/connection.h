// SPDX-License-Identifier: Apache-2.0
/// A connection to a peer: messages in order, and one-sided operations on the peer's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "verbena/error.h"
#include "verbena/handler.h"
#include "verbena/loop.h"
#include "verbena/operation.h"

namespace verbena {

namespace transport {
class Channel;
class ListenerState;
}  // namespace transport

/// A handle on a connection, which lives in its Loop. Destroying the handle closes the connection.
///
/// All of it never throws and never allocates. An error that is *returned* means that nothing was started and
/// that `done` will not run; `no_credit` and `overloaded` pass with the next turns of the loop. Errors that
/// complete an operation: connection_lost, retry_exceeded, remote_access, flushed … ; the connection is then
/// dead. In a forked child all of it says other_process. What is sent within one turn leaves at its end,
/// under one doorbell. Thread: its Loop's.
class Connection {
 public:
  Connection() noexcept = default;
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;
  ~Connection();

  /// Sends a message, in order. Completes when the peer's device has it, a long one (over eager_size) when
  /// the peer has read it. Lifetime: `bytes` stays unchanged until `done` runs. Errors: no_credit,
  /// overloaded, no_buffer, message_too_long (over the peer's large_bytes), connection_lost.
  std::error_code send(std::span<const std::byte> bytes, Operation& done) noexcept;
  /// The same for at most eager_size bytes, which are copied: they are the caller's again on return. Loss
  /// shows in on_closed.
  std::error_code send(std::span<const std::byte> bytes) noexcept;
  /// A message from registered pieces (4 at most), without a copy: eager_size bytes in all, or one longer
  /// piece of a region with Access::remote_read.
  std::error_code send(std::span<const Slice> pieces, Operation& done) noexcept;

  /// Writes `from` to the peer's region at `offset`. Completes when it is in the peer's memory.
  std::error_code put(const Slice& from, const RemoteRegion& to, std::uint64_t offset,
                      Operation& done) noexcept;
  /// Reads the peer's region at `offset` into `into`.
  std::error_code get(const Slice& into, const RemoteRegion& from, std::uint64_t offset,
                      Operation& done) noexcept;
  /// The same with any memory of the program, which stays as it is until `done` runs. It is registered for
  /// that, if it isn't still from the last time (docs/registration-cache.md). A hit costs a lookup and a
  /// short system call; a put that goes inline (some 200 bytes) needs none. Errors beside those of the
  /// others: memlock_too_small, invalid_argument (nothing is mapped there, or it can't be written to).
  std::error_code put(std::span<const std::byte> from, const RemoteRegion& to, std::uint64_t offset,
                      Operation& done) noexcept;
  std::error_code get(std::span<std::byte> into, const RemoteRegion& from, std::uint64_t offset,
                      Operation& done) noexcept;
  /// Adds to, or swaps, the 8-byte aligned number at `offset`; its former value goes to `former` (8 bytes).
  std::error_code fetch_add(const Slice& former, const RemoteRegion& at, std::uint64_t offset,
                            std::uint64_t add, Operation& done) noexcept;
  std::error_code compare_swap(const Slice& former, const RemoteRegion& at, std::uint64_t offset,
                               std::uint64_t expected, std::uint64_t desired, Operation& done) noexcept;

  /// `void(std::span<const std::byte>)`: the view is valid during the handler. Messages that come before a
  /// handler is set are dropped; set it where the connection is handed over.
  void on_message(Handler<void(std::span<const std::byte>)> handler);
  /// `void(std::error_code, std::string_view why)`: once, after every operation has completed. Not after
  /// close().
  void on_closed(Handler<void(std::error_code, std::string_view)> handler);
  /// Says goodbye and lets the connection go. What is under way completes in later turns with `cancelled`.
  void close() noexcept;

  bool is_open() const noexcept;
  /// "10.9.0.1:7471"
  std::string peer() const;
  /// One line: device, how it was connected, and what the two sides agreed on.
  std::string explain() const;
  /// One line: the way that a message of `bytes` bytes takes: inline, copied or read by the peer.
  std::string explain(std::size_t bytes) const;

  /// For the layers above.
  Connection(transport::Channel& channel, std::uint32_t serial) noexcept
      : channel_(&channel), serial_(serial) {}
  transport::Channel* channel() const noexcept;
  /// In a forked child: it is the parent's.
  bool is_parents() const noexcept;

 private:
  transport::Channel* current() const noexcept;
  std::error_code why_not() const noexcept;

  transport::Channel* channel_ = nullptr;
  std::uint32_t serial_ = 0;  // tells a channel from its successor in the same place
};

/// Listens as long as it lives.
class Listener {
 public:
  Listener() noexcept;
  Listener(Listener&&) noexcept;
  Listener& operator=(Listener&&) noexcept;
  ~Listener();
  /// The port, also where 0 was asked for.
  std::uint16_t port() const noexcept;

  explicit Listener(std::unique_ptr<transport::ListenerState> state) noexcept;

 private:
  std::unique_ptr<transport::ListenerState> state_;
};

/// Runs `on_connection(Connection)` for every peer. Throws Error: address_unusable, address_in_use.
Listener listen(Loop& loop, std::string_view address, Handler<void(Connection)> on_connection);

/// Runs `done(const Error* error, Connection)` once, not inside this call: `error` is null where it is
/// connected, else says who, what, why and the remedy (connection_refused, protocol_mismatch, timed_out …).
/// Throws Error where `address` is wrong by itself. Loop::context() and <verbena/asio.h> have the awaitable
/// form.
void connect(Loop& loop, std::string_view address, Handler<void(const Error*, Connection)> done);
/// Runs the loop until it is connected; throws Error.
Connection connect(Loop& loop, std::string_view address);

}  // namespace verbena
