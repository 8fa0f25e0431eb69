// SPDX-License-Identifier: Apache-2.0
// Coming together, and why it doesn't happen: each refusal says who, why, and what to do.
#include <chrono>

#include "transport/loops.h"
#include "transport/stranger.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;

bool says(const std::string& sentence, const std::string& part) {
  return sentence.find(part) != std::string::npos;
}

TEST(ConnectingTest, APortOfZeroBecomesAFreeOne) {
  Connected both;
  EXPECT_NE(both.listener.port(), 0);
  EXPECT_TRUE(says(both.client.peer(), std::to_string(both.listener.port()))) << both.client.peer();
}

TEST(ConnectingTest, TheHandlerNeverRunsInsideTheCall) {
  Connected both;
  bool answered = false;
  connect(both.client_loop, address_of(both.listener.port()),
          [&](const Error*, Connection) { answered = true; });
  EXPECT_FALSE(answered);
  both.until("an answer", [&] { return answered; });
}

TEST(ConnectingTest, MessagesSentAtOnceByEitherSideArrive) {
  Loops loops;
  Connection server;
  Connection client;
  std::deque<Message> at_server;
  std::deque<Message> at_client;
  const Listener listener = listen(loops.server_loop, address_of(0), [&](Connection connection) {
    server = std::move(connection);
    server.on_message(
        [&](std::span<const std::byte> bytes) { at_server.emplace_back(bytes.begin(), bytes.end()); });
    EXPECT_FALSE(server.send(message(20)));
  });
  connect(loops.client_loop, address_of(listener.port()), [&](const Error*, Connection connection) {
    client = std::move(connection);
    client.on_message(
        [&](std::span<const std::byte> bytes) { at_client.emplace_back(bytes.begin(), bytes.end()); });
    EXPECT_FALSE(client.send(message(10)));
  });
  loops.until("both messages", [&] { return at_server.size() == 1 && at_client.size() == 1; });
}

// ---- Why not ----

TEST(ConnectingTest, NobodyListens) {
  Loops loops;
  std::uint16_t port = 0;
  {
    port = listen(loops.server_loop, address_of(0), [](Connection) {}).port();
  }
  const Refusal refusal = refusal_of(loops, address_of(port));
  EXPECT_EQ(refusal.code, code(errc::connection_refused));
  EXPECT_TRUE(says(refusal.sentence, "nobody listens")) << refusal.sentence;
  EXPECT_TRUE(says(refusal.sentence, std::to_string(port))) << refusal.sentence;
}

TEST(ConnectingTest, OneMorePeerThanDeclaredIsRefusedWithTheReason) {
  Options options = small_options();
  options.peers = 1;
  Connected both{options, small_options()};
  const Refusal refusal = refusal_of(both, address_of(both.listener.port()));
  EXPECT_EQ(refusal.code, code(errc::connection_refused));
  EXPECT_TRUE(says(refusal.sentence, "1 connections already")) << refusal.sentence;
  EXPECT_TRUE(says(refusal.sentence, "Options::peers")) << refusal.sentence;
  EXPECT_TRUE(both.client.is_open());
}

TEST(ConnectingTest, OneMorePeerThanThisSideDeclaredIsRefusedHere) {
  Options options = small_options();
  options.peers = 1;
  Connected both{small_options(), options};
  const Refusal refusal = refusal_of(both, address_of(both.listener.port()));
  EXPECT_EQ(refusal.code, code(errc::overloaded));
  EXPECT_TRUE(says(refusal.sentence, "Options::peers")) << refusal.sentence;
}

TEST(ConnectingTest, AnAddressOfAnotherDeviceIsRefusedAtOnce) {
  Loops loops;
  const auto expect_refused = [&](const char* address, errc why, const char* part) {
    SCOPED_TRACE(address);
    for (const bool listening : {false, true}) {
      try {
        if (listening) {
          listen(loops.server_loop, address, [](Connection) {});
        } else {
          connect(loops.client_loop, address, [](const Error*, Connection) { FAIL() << "it was answered"; });
        }
        ADD_FAILURE() << "it was taken";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), code(why));
        EXPECT_TRUE(says(error.what(), part)) << error.what();
      }
    }
  };
  expect_refused("mlx5_7://127.0.0.1:7471", errc::device_not_found, "mlx5_7");
  expect_refused(on_soft0() ? "rxe1://127.0.0.1:7471" : "soft://127.0.0.1:7471", errc::device_not_found,
                 "Options::device");
  expect_refused("rdma//127.0.0.1:7471", errc::address_unusable, "scheme");
  loops.settle(100);
}

TEST(ConnectingTest, AnUnknownHostIsNamed) {
  Loops loops;
  const Refusal refusal = refusal_of(loops, device_name() + "://no-such-host.invalid:7471");
  EXPECT_EQ(refusal.code, code(errc::address_unusable));
  EXPECT_TRUE(says(refusal.sentence, "no-such-host.invalid")) << refusal.sentence;
}

TEST(ConnectingTest, AnAddressOfAnotherHostCannotBeListenedAt) {
  Loops loops;
  try {
    listen(loops.server_loop, device_name() + "://192.0.2.1:0", [](Connection) {});
    FAIL() << "it listens";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code(errc::address_unusable));
    EXPECT_TRUE(says(error.what(), "192.0.2.1")) << error.what();
  }
}

TEST(ConnectingTest, AnOccupiedPortIsNamed) {
  Connected both;
  try {
    listen(both.client_loop, address_of(both.listener.port()), [](Connection) {});
    FAIL() << "two listen at one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code(errc::address_in_use));
    EXPECT_TRUE(says(error.what(), std::to_string(both.listener.port()))) << error.what();
  }
}

TEST(ConnectingTest, ASilentServerIsGivenUpInTime) {
  Options options = small_options();
  options.connect_timeout = 100ms;
  Loops loops{small_options(), options};
  const StrangeServer silent;
  const auto begin = std::chrono::steady_clock::now();
  const Refusal refusal = refusal_of(loops, address_of(silent.port()));
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(refusal.code, code(errc::timed_out));
  EXPECT_TRUE(says(refusal.sentence, "100 ms")) << refusal.sentence;
  EXPECT_GE(took, 100ms);
  EXPECT_LT(took, 2s);
}

}  // namespace
}  // namespace verbena::test
