// SPDX-License-Identifier: Apache-2.0
// Two processes, one of which is killed while calls are under way.
#include <signal.h>

#include <algorithm>
#include <chrono>

#include "rpc/calls.h"
#include "support/child.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Serves `echo` and `keep` until it is killed; `keep` is never answered.
const Role server_role{"rpc server", [](Line& parent) {
                         Loop loop{small_options()};
                         rpc::Server server{loop, address_of(0)};
                         std::deque<rpc::Reply> kept;
                         server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
                         server.on(keep,
                                   [&](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
                         parent.put(server.port());
                         loop.run();
                       }};

/// Calls without end until it is killed; says when it has begun.
const Role client_role{"rpc client", [](Line& parent) {
                         Loop loop{small_options()};
                         rpc::Client client = rpc::connect(loop, address_of(parent.get<std::uint16_t>()));
                         std::uint64_t finished = 0;
                         const Message large = message(300'000);
                         bool told = false;
                         while (true) {
                           const auto note = [&](std::error_code, rpc::Bytes) { ++finished; };
                           while (!client.call(echo, finished % 2 ? large : Message(8), note)) {
                           }
                           loop.poll();
                           if (finished > 100 && !std::exchange(told, true)) parent.put('b');
                         }
                       }};

class DeathTest : public testing::TestWithParam<std::size_t> {};

TEST_P(DeathTest, AKilledServerLosesEachCallOnceWithinTwoSeconds) {
  for (int round = 0; round < 3; ++round) {
    Child child{"rpc server"};
    std::deque<Outcome> outcomes;  // outlives the client that completes them
    Loop loop{small_options()};
    rpc::Client client = rpc::connect(loop, address_of(child.line().get<std::uint16_t>()));
    int closed = 0;
    client.on_closed([&](std::error_code error, std::string_view why) {
      ++closed;
      EXPECT_TRUE(error);
      EXPECT_NE(why, "");
    });
    const Message request = message(GetParam());
    while (!client.call(keep, request, outcomes.emplace_back().handler())) {
    }
    outcomes.pop_back();
    ASSERT_FALSE(outcomes.empty());
    for (int turns = 0; turns < 100 * round; ++turns) loop.poll();  // queued, sent, received
    child.kill();
    const auto begin = Clock::now();
    loop.run_until([&] { return closed > 0 || Clock::now() > begin + patience; });
    EXPECT_LT(Clock::now() - begin, 2s);
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(outcome.times, 1);
      EXPECT_EQ(outcome.error, code(errc::connection_lost));
    }
    EXPECT_EQ(closed, 1);
    EXPECT_EQ(client.call(echo, {}, outcomes[0].handler()), code(errc::connection_lost));
    EXPECT_EQ(loop.pinned_bytes(), small_options().budget().total());
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, DeathTest, testing::Values(8, 900, 50'000));

TEST(DeathOfAClientTest, TheServerKeepsServingTheOthers) {
  Calls calls;
  for (std::size_t round = 0; round < rounds(10); ++round) {
    Child victim{"rpc client"};
    victim.line().put(calls.server.port());
    calls.until("its connection", [&] { return calls.server.connections() == 2; });
    const auto begin = Clock::now();
    while (Clock::now() < begin + 20ms) calls.expect_echo(message(500));
    victim.kill();
    for (int i = 0; i < 20; ++i) calls.expect_echo(message(2000));
    calls.until(
        "its end", [&] { return calls.server.connections() == 1; }, 2s);
  }
  calls.expect_echo(message(100'000));
  EXPECT_EQ(calls.server_loop.statistics().violations, 0U);
}

TEST(DeathOfAClientTest, AStoppedClientHoldsUpNobodyElse) {
  Calls calls;
  Child victim{"rpc client"};
  victim.line().put(calls.server.port());
  calls.until("its connection", [&] { return calls.server.connections() == 2; });
  calls.settle();
  victim.signal(SIGSTOP);
  for (int i = 0; i < 200; ++i) calls.expect_echo(message(700));
  calls.expect_echo(message(100'000));
}

}  // namespace
}  // namespace verbena::test
