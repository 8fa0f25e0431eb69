// SPDX-License-Identifier: Apache-2.0
/// The responding side of one connection.
#pragma once

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <verbena/rpc.h>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "tools/common/floor.h"
#include "tools/perf/message_source.h"
#include "tools/perf/order.h"
#include "tools/perf/write_ping_pong.h"

namespace verbena::tools {

class Response {
 public:
  /// `address` is where this side listens; `floor` is null where the other side is on another host.
  Response(Loop& loop, Connection connection, const std::string& address, Floor* floor);
  Response(const Response&) = delete;
  Response& operator=(const Response&) = delete;
  ~Response();

  std::string peer() const { return connection_.peer(); }
  /// Carries out orders until the last one, or until the connection is gone.
  void run();

 private:
  void take(std::span<const std::byte> bytes);
  void echo();
  void carry_out(const Order& order);
  void prepare(const Order& order);
  void open_call_server();
  void run_round(std::uint64_t count);
  void answer(const Answer& answer);

  Loop& loop_;
  Connection connection_;
  std::string address_;
  Floor* floor_;
  std::deque<Order> orders_;
  bool finished_ = false;
  TestKind test_ = TestKind::floor;
  std::uint64_t messages_ = 0;
  std::uint64_t owed_echoes_ = 0;

  // What the test at hand needs.
  Region memory_;
  std::unique_ptr<WritePingPong> writes_;
  std::unique_ptr<MessageSource> echo_source_;
  std::optional<rpc::Server> calls_;
};

}  // namespace verbena::tools
