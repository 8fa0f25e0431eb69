// SPDX-License-Identifier: Apache-2.0
/// Reading a peer's memory whole, by one-sided reads of chunks in parallel.
#pragma once

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include "tools/common/progress.h"

namespace verbena::tools {

class Fetch {
 public:
  static constexpr std::size_t chunk = std::size_t{1} << 20;
  static constexpr std::size_t in_flight = 16;

  /// All of them outlive it.
  Fetch(Loop& loop, Connection& peer, Region& into, const RemoteRegion& from);
  Fetch(const Fetch&) = delete;
  Fetch& operator=(const Fetch&) = delete;

  /// One whole pass; returns its nanoseconds. Throws Failure where the peer goes away in the middle.
  double run(Progress& progress);

 private:
  struct Read : Operation {
    Fetch* fetch = nullptr;
  };
  static void finished(Operation* self, std::error_code error, std::size_t bytes) noexcept;
  void start(Read& read) noexcept;
  void drain();

  Loop& loop_;
  Connection& peer_;
  Region& into_;
  RemoteRegion from_;
  std::array<Read, in_flight> reads_;
  std::array<Read*, in_flight> waiting_{};  // to be started anew: the device took no more at once
  std::size_t waiting_count_ = 0;
  std::uint64_t next_ = 0;  // offset
  std::uint64_t done_ = 0;  // bytes
  std::size_t running_ = 0;
  std::error_code error_;
};

}  // namespace verbena::tools
