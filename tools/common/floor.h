// SPDX-License-Identifier: Apache-2.0
/// The floor under every latency: what two cores need at least to tell each other eight bytes.
///
/// Two processes share a page, with one cache line each way, payload and flag in the same line, and both
/// spin. No message between these two processes on these two cores can be faster. Virtual machines move their
/// cores, and then the floor moves by a factor of five; so a latency means something only beside the floor of
/// the same moment.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tools/common/samples.h"

namespace verbena::tools {

class Floor {
 public:
  /// The first process creates it, the second one opens the descriptor that it inherits. Throw Failure.
  static Floor create();
  static Floor open(int fd);
  Floor(Floor&& other) noexcept;
  Floor& operator=(Floor&&) = delete;
  ~Floor();

  /// For the second process.
  int descriptor() const noexcept { return fd_; }

  /// One side of `round_trips` round trips; the other process calls the other one with the same number.
  /// ping() adds a sample per round trip, without those at the start while the other side may not be there
  /// yet.
  void ping(std::size_t round_trips, Samples& samples) noexcept;
  void pong(std::size_t round_trips) noexcept;

  /// Round trips at a round's start that aren't counted.
  static constexpr std::size_t warm_up = 64;

 private:
  struct Page;
  Floor(int fd, Page* page) noexcept : fd_(fd), page_(page) {}

  int fd_;
  Page* page_;
  std::uint64_t sequence_ = 0;
};

}  // namespace verbena::tools
