// SPDX-License-Identifier: Apache-2.0
// Servers and clients that go while calls are under way: each call completes once.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

TEST(EndsTest, ClosingTheClientCancelsItsCalls) {
  Calls calls;
  std::deque<Outcome> outcomes(small_options().call_depth);
  for (Outcome& outcome : outcomes) ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler()));
  calls.until("some of them", [&] { return calls.kept.size() > 3; });
  calls.client.close();
  calls.until("the server's word of it", [&] { return calls.server.connections() == 0; });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.times, 1);
    EXPECT_EQ(outcome.error, code(errc::cancelled));
  }
  EXPECT_FALSE(calls.client.is_open());
  EXPECT_EQ(calls.client.call(echo, {}, outcomes[0].handler()), code(errc::connection_lost));
}

TEST(EndsTest, TheServersEndLosesTheCalls) {
  Loops loops;
  std::optional<rpc::Server> server{std::in_place, loops.server_loop, address_of(0)};
  std::deque<rpc::Reply> kept;
  server->on(keep, [&](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
  rpc::Client client = connected(loops, server->port());
  int closed = 0;
  client.on_closed([&](std::error_code error, std::string_view why) {
    ++closed;
    EXPECT_EQ(error, code(errc::connection_lost));
    EXPECT_NE(why, "");
  });
  std::deque<Outcome> outcomes(5);
  const Message large = message(50'000);
  for (Outcome& outcome : outcomes) {
    ASSERT_FALSE(
        client.call(keep, &outcome == &outcomes[4] ? rpc::Bytes{large} : rpc::Bytes{}, outcome.handler()));
  }
  loops.until("their replies", [&] { return kept.size() == 5; });
  server.reset();
  loops.until("the end", [&] { return closed > 0; });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.times, 1);
    EXPECT_EQ(outcome.error, code(errc::connection_lost));
  }
  EXPECT_EQ(closed, 1);
  kept.clear();
  loops.settle(100);
}

TEST(EndsTest, WhatWasAnsweredBeforeTheServersEndArrives) {
  Loops loops;
  std::optional<rpc::Server> server{std::in_place, loops.server_loop, address_of(0)};
  server->on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  rpc::Client client = connected(loops, server->port());
  std::deque<Outcome> outcomes(10);
  for (Outcome& outcome : outcomes) ASSERT_FALSE(client.call(echo, message(500), outcome.handler()));
  loops.client_loop.flush();
  wait_until("the requests", [&] { return loops.server_loop.poll() > 0; });
  for (int i = 0; i < 1000; ++i) loops.server_loop.poll();
  server.reset();
  loops.until("ten replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.error, std::error_code{});
}

TEST(EndsTest, AHandlerMayDestroyItsClient) {
  Calls calls;
  std::optional<rpc::Client> client{std::move(calls.client)};
  int times = 0;
  const auto note = [&](std::error_code, rpc::Bytes) {
    ++times;
    client.reset();
  };
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(client->call(echo, {}, note));
  calls.until("the calls", [&] { return times == 5; });
  calls.until("the server's word of it", [&] { return calls.server.connections() == 0; });
}

TEST(EndsTest, AMethodMayDestroyItsServer) {
  Loops loops;
  std::optional<rpc::Server> server{std::in_place, loops.server_loop, address_of(0)};
  server->on(echo, [&](rpc::Bytes, rpc::Reply& reply) {
    reply.send({});
    server.reset();
  });
  rpc::Client client = connected(loops, server->port());
  std::deque<Outcome> outcomes(3);
  for (Outcome& outcome : outcomes) ASSERT_FALSE(client.call(echo, {}, outcome.handler()));
  loops.until("their end", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  EXPECT_EQ(outcomes[0].error, std::error_code{});
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.times, 1);
}

TEST(EndsTest, AClientMayComeBackManyTimes) {
  Calls calls;
  for (std::size_t i = 0; i < rounds(50); ++i) {
    calls.expect_echo(message(i * 100));
    calls.client = rpc::Client{};
    calls.until("its end", [&] { return calls.server.connections() == 0; });
    calls.client = connected(calls, calls.server.port());
  }
}

TEST(EndsTest, AClientThatIsNotConnectedSaysSo) {
  rpc::Client nobody;
  EXPECT_FALSE(nobody.is_open());
  EXPECT_EQ(nobody.call(echo, {}, [](std::error_code, rpc::Bytes) {}), code(errc::connection_lost));
  EXPECT_EQ(nobody.in_flight(), 0U);
  nobody.close();
}

TEST(EndsTest, TheBlockingConnectThrowsWhatIsWrong) {
  std::uint16_t port = 0;
  Loops loops;
  { port = rpc::Server{loops.server_loop, address_of(0)}.port(); }
  EXPECT_THROW(rpc::connect(loops.client_loop, address_of(port)), Error);
  EXPECT_THROW(rpc::connect(loops.client_loop, "nonsense"), Error);
}

}  // namespace
}  // namespace verbena::test
