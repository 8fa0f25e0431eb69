// SPDX-License-Identifier: Apache-2.0
/// Capacities as itemised sums of the declared options: what can be posted fits by construction.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "transport/send_ring.h"
#include "transport/wire.h"
#include "verbena/options.h"

namespace verbena::transport {

/// A side sends a credit message when half the window has been used and not granted anew, and its peer can
/// use no more than the window before it has met the last grant: two can be under way (three where the window
/// is three), or one of them being handled.
inline constexpr std::uint32_t control_reserve = 3;
/// Receives are posted in batches: so many buffers may be out of the queue.
inline constexpr std::uint32_t repost_batch = 16;

constexpr std::size_t buffer_bytes(const Options& options) {
  constexpr std::size_t line = 64;
  return (headers_size + options.eager_size + line - 1) / line * line;
}
constexpr std::size_t receives_per_peer(const Options& options) {
  return std::size_t{options.request_depth}  // requests and messages that the peer has credit for
         + options.call_depth                // replies to our calls
         + options.large_depth               // releases of our large messages
         + control_reserve;                  // credits
}
constexpr std::size_t receives(const Options& options) {
  return options.peers * receives_per_peer(options) + repost_batch;
}
/// Of few requests under way not so many go unannounced: their slots are memory that a quiet peer has
/// touched.
constexpr std::uint32_t signal_interval(const Options& options) {
  return std::clamp((options.request_depth + options.send_depth) / 8, 1u, longest_signal_interval);
}
constexpr std::uint32_t sends_per_peer(const Options& options) {
  return options.request_depth                           // requests and messages
         + 2 * options.call_depth                        // replies, and those not yet known to be complete
         + (max_large_pieces + 2) * options.large_depth  // reads of large messages, confirmations, releases
         + control_reserve                               // credits
         + options.send_depth                            // the program's operations
         + 2 * signal_interval(options)                  // completed, but not yet announced
         + 1                                             // a keep-alive probe
         + 1;  // the one that announces them when the connection is closed
}
/// Messages of any kind are queued while fewer are under way: a peer that goes on without acknowledging
/// anything is given up there, and the reads, the probe and the last one still find their places.
constexpr std::uint32_t eager_limit(const Options& options) {
  return sends_per_peer(options) - (max_large_pieces + 1) * options.large_depth - 1 - 1;
}
/// What the program starts, starts while fewer than so many sends are under way: the peer's window alone
/// doesn't bound it (the peer may declare any, and grants come back before sends are announced), and what has
/// a reserve of its own always finds its place.
constexpr std::uint32_t request_limit(const Options& options) {
  return options.request_depth + options.send_depth + signal_interval(options) + 1;  // and a probe
}
constexpr std::uint32_t one_sided_limit(const Options& options) {
  return options.send_depth + 2 * signal_interval(options) + 1;  // and a probe
}
constexpr std::size_t completions(const Options& options) {
  return options.peers * (std::size_t{sends_per_peer(options)} + 1)  // and the drain marker
         + receives(options);
}

}  // namespace verbena::transport
