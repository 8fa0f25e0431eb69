// SPDX-License-Identifier: Apache-2.0
/// The one thing that makes progress: a device, its completion queue, and the connections on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "verbena/memory.h"
#include "verbena/options.h"
#include "verbena/poster.h"
#include "verbena/snapshot.h"
#include "verbena/statistics.h"

namespace boost::asio {
class io_context;
}

namespace verbena {

/// One Loop a thread; nothing is shared between two of them. All that belongs to a Loop (connections,
/// operations, calls, regions) is used in its thread only and destroyed before it. Handlers run inside poll()
/// and run(), and must not call those. The way in from other threads is post().
class Loop {
 public:
  /// Opens the device, registers the pools. Throws Error: device_not_found, memlock_too_small,
  /// invalid_argument.
  explicit Loop(Options options = {});
  /// Runs inside `context`: while `context` runs, the loop is polled for `spin` after its last event and then
  /// waits by Asio's epoll. `context` is run by one thread and outlives the Loop.
  explicit Loop(boost::asio::io_context& context, Options options = {});
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// One turn: completes what is complete, runs handlers, sends what they queued. Never blocks.
  /// Returns how many completions it met and posted functions it ran.
  std::size_t poll();
  /// Sends what is queued, without looking for completions: for a program that spins on its own memory.
  void flush();
  /// Polls, and sleeps where nothing happens (Options::busy_poll, spin), until stop(). stop() may come from a
  /// handler.
  void run();
  void stop() noexcept;
  /// The same until `done()`; it is asked after every turn and every sleep.
  template <class Predicate>
  void run_until(Predicate done) {
    while (!done()) step();
  }

  /// Runs `function()` in the loop's thread, soon: see Poster::post. Thread: any, but not once the Loop is
  /// being destroyed; a Poster may be used even then.
  template <class Function>
  void post(Function&& function) {
    poster().post(std::forward<Function>(function));
  }
  Poster poster() const noexcept;

  Memory& memory() noexcept { return memory_; }
  const Options& options() const noexcept;
  /// The name of the device that it runs on.
  std::string_view device() const noexcept;
  /// The bytes that its pools have pinned: equals options().budget().total().
  std::size_t pinned_bytes() const noexcept;
  const Statistics& statistics() const noexcept;
  /// The same, and all methods, as a value for others. It allocates: 10 KiB a method.
  Snapshot snapshot() const;
  /// Its own, or the one that it was given: for timers, coroutines, sockets on the same thread.
  boost::asio::io_context& context() noexcept;

  transport::Engine& engine() noexcept { return *engine_; }

 private:
  void step();  // a turn, or a sleep after `spin` of idle turns

  std::unique_ptr<transport::Engine> engine_;
  Memory memory_;
};

}  // namespace verbena
