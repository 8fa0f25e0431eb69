// SPDX-License-Identifier: Apache-2.0
/// The measuring side: its loop, its connection to the responding side, and what it says to it.
#pragma once

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "tools/common/floor.h"
#include "tools/common/second_process.h"
#include "tools/perf/order.h"
#include "tools/perf/plan.h"

namespace verbena::tools {

/// Throws Failure or verbena::Error wherever the other side fails.
class Session {
 public:
  /// Connects to the other host's responding side or, where the plan names none, starts one here.
  explicit Session(const Plan& plan);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Loop& loop() noexcept { return *loop_; }
  Connection& connection() noexcept { return connection_; }
  const std::string& address() const noexcept { return address_; }
  /// The device's name; empty where the test needs none.
  std::string device() const { return loop_ ? std::string(loop_->device()) : std::string{}; }
  /// Whether the device is a software one of this host, whose cost is mostly the floor's.
  bool is_software() const noexcept { return software_; }

  /// Makes the responding side ready for a test; `ours` is where it may write to.
  Answer prepare(TestKind test, std::uint64_t size, std::uint32_t depth, const RemoteRegion& ours = {});
  /// Tells it that `count` round trips follow.
  void announce_round(std::uint64_t count);
  /// How many messages of the test have come there, once all that was sent has come.
  std::uint64_t count_there();
  /// Half the median round trip, or nothing where the other side is on another host.
  std::optional<double> floor_one_way_ns();
  /// Ends the responding side.
  void finish();

  /// Hands the connection's messages to a test, and back. While the test has them, nothing is asked.
  void on_message(Handler<void(std::span<const std::byte>)> handler);
  void take_messages_back();

  /// Throws what ended the connection, where it has ended.
  void expect_open() const;
  /// One turn of the loop, with that check.
  void turn();
  /// Turns until `error` is anything but "later"; throws it. For starting an operation in set-up code.
  template <typename Start>
  void insist(Start&& start);

  /// Floor round trips by themselves: for the test `floor`.
  Floor* floor() noexcept { return floor_ ? &*floor_ : nullptr; }
  std::size_t floor_round_trips();
  void ping_floor(std::size_t round_trips, Samples& samples);

 private:
  void start_second_process(const Plan& plan);
  void open_loop(const Plan& plan);
  void send(const Order& order);
  Answer ask(const Order& order);

  std::optional<Floor> floor_;
  std::optional<SecondProcess> second_;
  std::string address_;
  std::unique_ptr<Loop> loop_;
  std::optional<Answer> answer_;
  std::string closed_because_;
  bool software_ = true;
  Connection connection_;
  Samples floor_samples_;
  std::size_t floor_round_trips_ = 0;
};

/// Whether a returned error passes with the next turns of the loop.
inline bool passes(std::error_code error) noexcept {
  return error == errc::no_credit || error == errc::overloaded || error == errc::no_buffer;
}

/// What a failed operation is reported as: which one, and why.
[[noreturn]] void throw_failed(const char* operation, std::error_code error);

template <typename Start>
void Session::insist(Start&& start) {
  for (std::error_code error = start(); error; error = start()) {
    if (!passes(error)) throw_failed("a message to the responding side", error);
    turn();
  }
}

}  // namespace verbena::tools
