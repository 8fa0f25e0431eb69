// SPDX-License-Identifier: Apache-2.0
// None of the reserves can be used up by another.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

class ReservesTest : public testing::TestWithParam<std::size_t> {};

// Each side fills the other's request queue and only then looks at what has come.
TEST_P(ReservesTest, FullRequestQueuesBothWaysDoNotStopReplies) {
  Options options = small_options();
  options.call_depth = 32;  // more than requests may be under way
  Calls calls{options, options};
  rpc::Server other_server{calls.client_loop, address_of(0)};
  other_server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  rpc::Client other_client;
  rpc::connect(calls.server_loop, address_of(other_server.port()),
               [&](const Error*, rpc::Client made) { other_client = std::move(made); });
  calls.until("the way back", [&] { return other_client.is_open(); });
  const Message request = message(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::deque<Outcome> outcomes;
    for (rpc::Client* client : {&calls.client, &other_client}) {
      for (int turn = 0; turn < 5; ++turn) {
        while (!client->call(echo, request, outcomes.emplace_back().handler())) {
        }
        outcomes.pop_back();
        (client == &calls.client ? calls.client_loop : calls.server_loop).poll();
      }
    }
    EXPECT_GE(outcomes.size(), 2 * options.request_depth);
    calls.until("all replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.error, std::error_code{});
  }
}

TEST_P(ReservesTest, RepliesThatAreHeldBackAllLeaveInTheEnd) {
  Options options = small_options();
  options.call_depth = 64;
  Calls calls{options, options};
  std::deque<Outcome> outcomes;
  calls.until("64 kept replies", [&] {
    while (!calls.client.call(keep, {}, outcomes.emplace_back().handler())) {
    }
    outcomes.pop_back();
    return calls.kept.size() == 64;
  });
  for (rpc::Reply& reply : calls.kept) reply.send(message(GetParam()));  // all in one turn
  calls.until("64 replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.error, std::error_code{});
    EXPECT_EQ(outcome.reply.size(), GetParam());
  }
}

TEST_P(ReservesTest, AClientThatDoesNotPollHoldsUpNobodyElse) {
  Calls calls;
  Loop idle_loop{small_options()};
  std::optional<rpc::Client> idle;
  rpc::connect(idle_loop, address_of(calls.server.port()),
               [&](const Error*, rpc::Client made) { idle.emplace(std::move(made)); });
  calls.until("an idle client", [&] {
    idle_loop.poll();
    Loops::look(idle_loop);
    return idle.has_value();
  });
  const Message request = message(GetParam());
  std::deque<Outcome> outcomes;
  while (!idle->call(echo, request, outcomes.emplace_back().handler())) {
  }
  idle_loop.flush();
  for (int i = 0; i < 200; ++i) calls.expect_echo(request);
  outcomes.pop_back();
  calls.until("its own replies", [&] {
    idle_loop.poll();
    return std::ranges::all_of(outcomes, &Outcome::done);
  });
}

// Inline, and through the pools.
INSTANTIATE_TEST_SUITE_P(Sizes, ReservesTest, testing::Values(8, 900));

}  // namespace
}  // namespace verbena::test
