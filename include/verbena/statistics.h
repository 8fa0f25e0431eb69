// SPDX-License-Identifier: Apache-2.0
/// What a Loop counts, in all and method by method. docs/observing.md says what to read from it.
///
/// Counters only grow. They are plain numbers of the loop's thread: others get copies (Loop::snapshot()).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "verbena/histogram.h"

namespace verbena {

/// What a Loop has counted since it was made. Bytes are those of payloads: headers aside.
struct Statistics {
  std::uint64_t turns = 0;
  std::uint64_t messages_sent = 0;  ///< requests, replies and Verbena's own (credit, release) included
  std::uint64_t messages_received = 0;
  std::uint64_t frames_received = 0;  ///< work requests that brought them: several messages may share one
  std::uint64_t bytes_sent = 0;       ///< of messages, requests and replies of any size, when they are queued
  std::uint64_t bytes_received = 0;   ///< of those, when they are handed out
  std::uint64_t one_sided_operations = 0;  ///< put, get, fetch_add, compare_swap that were started
  std::uint64_t one_sided_bytes = 0;
  std::uint64_t credit_messages_sent = 0;
  std::uint64_t keep_alives_sent = 0;  ///< on connections where nothing else happened: Options::keep_alive
  std::uint64_t large_messages_read = 0;
  /// Large requests whose handler read them where they lie.
  std::uint64_t large_messages_lent = 0;
  std::uint64_t credit_waits = 0;        ///< messages and calls refused with no_credit: the peer is behind
  std::uint64_t overloaded = 0;          ///< what was refused with overloaded: a declared depth is used up
  std::uint64_t late_replies = 0;        ///< of calls that had timed out; dropped
  std::uint64_t stale_messages = 0;      ///< of an earlier epoch; dropped
  std::uint64_t violations = 0;          ///< connections ended because the peer broke the protocol
  std::uint64_t connections_opened = 0;  ///< by either side
  std::uint64_t connections_lost = 0;    ///< those that ended, but not by this side's close()
  std::uint64_t sleeps = 0;
  // Of the program's memory outside of Regions, which is registered for the operations that use it:
  std::uint64_t registrations = 0;           ///< made, for lack of one that was kept
  std::uint64_t registration_hits = 0;       ///< operations that found one
  std::uint64_t registration_evictions = 0;  ///< dropped for the bounds: Options::kept_registrations
  std::uint64_t registration_invalidations =
      0;                                     ///< dropped because the memory was unmapped, moved or emptied
  std::uint64_t registrations_retired = 0;   ///< of all dropped, those that an operation still used
  std::uint64_t registrations_not_kept = 0;  ///< for one use: changes of that memory can't be watched …
  std::uint64_t registration_ns = 0;         ///< time that the device took for all of them
};

namespace rpc {

/// Which end of its calls a Loop is.
enum class Role : std::uint8_t { client, server };

/// How a call failed.
enum class Failed : std::uint8_t {
  timed_out,
  cancelled,
  rejected,
  handler_failed,
  overloaded,
  connection_lost,
  other
};
inline constexpr std::array<std::string_view, 7> failure_names{
    "timed_out", "cancelled", "rejected", "handler_failed", "overloaded", "connection_lost", "other"};

/// What a Loop has counted of one method, of all its clients or of all its servers. Always:
/// calls = completed + the sum of errors + those under way.
struct alignas(64) MethodStatistics {
  std::uint64_t calls = 0;      ///< a client's that were sent, a server's that have arrived
  std::uint64_t completed = 0;  ///< answered with a result
  std::uint64_t bytes_in = 0;   ///< of a client's replies, of a server's requests
  std::uint64_t bytes_out = 0;  ///< of a client's requests, of a server's replies
  std::uint32_t method = 0;     ///< its MethodId
  Role role = Role::client;
  /// The row of all methods that have none of their own: the 257th and following, and, of a server, those
  /// without a handler.
  bool is_other = false;
  /// Answered with an error, or not at all: by kind, indexed by Failed.
  std::array<std::uint64_t, failure_names.size()> errors{};
  std::string name;  ///< as Server::name() or Client::name() set it; or empty
  /// Of one call in Options::latency_sample: a client's from call() to its completion, whatever that says; a
  /// server's the time in the handler.
  Histogram latency;

  std::uint64_t failed() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : errors) sum += count;
    return sum;
  }
  /// The name, or the id in digits; "other".
  std::string title() const { return is_other ? "other" : name.empty() ? std::to_string(method) : name; }
};

/// The methods of each role that a Loop counts apart. A method takes 10 KiB, when it is first seen.
inline constexpr std::size_t most_methods = 256;

}  // namespace rpc
}  // namespace verbena
