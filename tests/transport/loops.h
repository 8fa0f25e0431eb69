// SPDX-License-Identifier: Apache-2.0
/// Two loops in one thread, turned one after the other: both sides of a connection inside one test.
///
/// VERBENA_TEST_DEVICE names the device (default soft0), VERBENA_RXE_ADDRESS this host's address on it.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "support/patience.h"
#include "support/seed.h"
#include "verbena/connection.h"
#include "verbena/rpc.h"

namespace verbena::test {

/// "soft0", "rxe1"
std::string device_name();
bool on_soft0();
/// "soft0://127.0.0.1:7471"
std::string address_of(std::uint16_t port);
/// How many rounds of what is slow under emulation: `rounds`, or a tenth of it.
std::size_t rounds(std::size_t rounds);

/// Small pools, so that their ends are met soon; the test device.
Options small_options();

using Message = std::vector<std::byte>;
/// `size` bytes that differ from those of another `number`.
Message message(std::size_t size, std::uint32_t number = 0);

inline std::error_code code(errc value) {
  return make_error_code(value);
}

/// An operation that writes down how it went.
struct Noted : Operation {
  Noted() : Operation(&note) {}
  int times = 0;
  std::error_code error;
  std::size_t bytes = 0;
  bool done() const { return times > 0; }

 private:
  static void note(Operation* self, std::error_code error, std::size_t bytes) noexcept;
};

class Loops {
 public:
  explicit Loops(const Options& server = small_options(), const Options& client = small_options())
      : server_loop(server), client_loop(client) {}

  /// Turns both loops until `condition` holds; Impatience otherwise.
  template <class Condition>
  void until(const std::string& what, Condition condition, std::chrono::milliseconds limit = patience) {
    wait_until(
        what,
        [&] {
          turn();
          return condition();
        },
        limit);
  }
  /// One turn of each.
  void turn();
  /// So many turns of each: enough for all that is under way to arrive.
  void settle(int turns = 2000);
  /// Looks at the sockets of a loop, as poll() does now and then.
  static void look(Loop& loop);

  Loop server_loop;
  Loop client_loop;

 private:
  unsigned turns_ = 0;
};

/// Two connected ends.
class Connected : public Loops {
 public:
  explicit Connected(const Options& server = small_options(), const Options& client = small_options());

  /// Sends `bytes` from the client once credit and room allow it.
  void send_when_it_may(std::span<const std::byte> bytes);

  Listener listener;
  Connection server;
  Connection client;
  std::deque<Connection> later;  ///< connections of others to the same listener
};

/// What arrived at one end, in order.
class Inbox {
 public:
  explicit Inbox(Connection& connection);
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  std::deque<Message> messages;
};

/// How a connection ended, as on_closed told.
struct Ending {
  explicit Ending(Connection& connection);
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;
  int times = 0;
  std::error_code error;
  std::string why;
};

/// What connecting to `address` says, turning `loops` meanwhile; "" where it connected.
struct Refusal {
  std::error_code code;
  std::string sentence;
};
Refusal refusal_of(Loops& loops, const std::string& address);

void expect_equal(std::span<const std::byte> got, std::span<const std::byte> wanted);

}  // namespace verbena::test
