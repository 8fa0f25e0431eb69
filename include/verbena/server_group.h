// SPDX-License-Identifier: Apache-2.0
/// A server over several threads, each with a Loop of its own, all at one address and port.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "verbena/handler.h"
#include "verbena/options.h"
#include "verbena/poster.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

class GroupState;

/// The kernel gives each connection to one of the loops, by a hash of the two ends' addresses and ports:
/// evenly over many connections, not over few. A connection stays with its loop. `Options::peers` is each
/// loop's, and a loop that is full refuses though others have room: leave some. What the options pin is
/// pinned by each.
///
/// Threads: the group belongs to the thread that made it. Handlers run in the thread of their loop; what
/// those of several loops share is theirs to guard. The threads aren't pinned to processors.
class ServerGroup {
 public:
  /// Starts `loops` threads. `set_up(server)` runs once for each server, in its thread, one after the other,
  /// before its loop runs: Server::on. The address's port may be 0. Throws Error where a loop or a server
  /// can't be made, and what `set_up` throws; then no thread is left.
  ServerGroup(std::size_t loops, Options options, std::string_view address, Handler<void(Server&)> set_up);
  /// Stops the loops, also while calls are under way: their callers get connection_lost or cancelled. Joins
  /// the threads.
  ~ServerGroup();
  ServerGroup(ServerGroup&&) noexcept;
  ServerGroup& operator=(ServerGroup&&) = delete;

  std::uint16_t port() const noexcept;
  std::size_t size() const noexcept;
  /// The way into loop `index`.
  Poster poster(std::size_t index) const;
  /// Open connections of each loop; it waits for all of them to answer.
  std::vector<std::size_t> connections() const;

 private:
  std::unique_ptr<GroupState> state_;
};

}  // namespace verbena::rpc
