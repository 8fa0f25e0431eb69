// SPDX-License-Identifier: Apache-2.0
/// A peer in another process, with connections to the test's listener, that reaches into the test's memory.
#pragma once

#include <cstdint>
#include <deque>
#include <span>

#include "support/child.h"
#include "transport/loops.h"

namespace verbena::test {

class Reacher {
 public:
  /// Connects `connections` times to a listener on `loop`.
  explicit Reacher(Loop& loop, std::size_t connections = 1);

  /// Reads `length` bytes, which it compares with message(length, number).
  struct Read {
    std::error_code error;
    bool equal;
  };
  Read read(const RemoteRegion& from, std::uint32_t number, std::size_t connection = 0);
  /// Writes message(to.length, number) there.
  std::error_code write(const RemoteRegion& to, std::uint32_t number, std::size_t connection = 0);
  /// Writes there again and again until it fails; returns when the first has arrived.
  void start_writing(const RemoteRegion& to);
  /// What the writing ended with.
  std::error_code writing_ended_with();

  /// This side's ends.
  Connection& connection(std::size_t which = 0) { return connections_[which]; }
  Child& child() { return child_; }
  /// Says goodbye and waits for its end, which must be a good one.
  void finish();

 private:
  enum class What : std::uint8_t { read, write, go_on_writing, leave };
  struct Order {
    What what;
    std::uint32_t number;
    std::size_t connection;
    RemoteRegion region;
  };
  struct Outcome {
    int error;  ///< an errc, 0 for none
    bool equal;
  };
  friend struct ReacherRole;

  Outcome carry_out(const Order& order);

  Loop& loop_;
  Child child_{"reacher"};
  Listener listener_;
  std::deque<Connection> connections_;
};

}  // namespace verbena::test
