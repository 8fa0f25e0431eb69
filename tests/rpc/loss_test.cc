// SPDX-License-Identifier: Apache-2.0
// A connection that is lost: each call says whether its request may have run.
#include <algorithm>
#include <memory>
#include <optional>

#include "rpc/calls.h"
#include "rpc/client_state.h"

namespace verbena::test {
namespace {

Options deep_options() {
  Options options = small_options();
  options.request_depth = options.call_depth = 64;
  return options;
}

/// A client whose connection can be cut at any moment, as a failed completion does it.
class LossTest : public testing::TestWithParam<std::size_t> {
 protected:
  LossTest() {
    server.on(echo, [this](rpc::Bytes request, rpc::Reply& reply) {
      ++ran;
      reply.send(request);
    });
    server.on(keep, [this](rpc::Bytes, rpc::Reply& reply) {
      ++ran;
      kept.push_back(std::move(reply));
    });
    reconnect();
  }
  void reconnect() {
    Connection connection;
    connect(loops.client_loop, address_of(server.port()), [&](const Error* error, Connection made) {
      if (error) ADD_FAILURE() << error->what();
      connection = std::move(made);
    });
    loops.until("a connection", [&] { return connection.is_open() && server.connections() == 1; });
    channel = connection.channel();
    client = rpc::Client{std::make_unique<rpc::ClientState>(loops.client_loop, std::move(connection))};
    client.on_closed([this](std::error_code error, std::string_view) { closed = error; });
    closed.reset();
  }
  void call(rpc::MethodId method, const Message& request) {
    ASSERT_EQ(client.call(method, request, outcomes.emplace_back().handler()), std::error_code{});
  }
  void cut() { channel->fail(make_error_code(errc::retry_exceeded), "cut by the test"); }
  void until_closed() {
    loops.until("the end on both sides", [&] { return closed && server.connections() == 0; });
  }
  std::size_t count(std::error_code error) const {
    return static_cast<std::size_t>(std::ranges::count(outcomes, error, &Outcome::error));
  }
  void expect_each_completed_once() const {
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.times, 1);
  }

  std::deque<Outcome> outcomes;  // outlive the client
  Loops loops{deep_options(), deep_options()};
  std::deque<rpc::Reply> kept;
  std::size_t ran = 0;
  rpc::Server server{loops.server_loop, address_of(0)};
  transport::Channel* channel = nullptr;
  std::optional<std::error_code> closed;
  rpc::Client client;
};

TEST_P(LossTest, ARequestThatWasNeverPostedHasNotRun) {
  const Message request = message(GetParam());
  for (int i = 0; i < 3; ++i) call(keep, request);
  cut();
  until_closed();
  expect_each_completed_once();
  EXPECT_EQ(count(code(errc::not_sent)), 3U);
  EXPECT_EQ(ran, 0U);
  EXPECT_EQ(closed, code(errc::retry_exceeded));
}

TEST_P(LossTest, ARequestThatWasPostedMayHaveRun) {
  const Message request = message(GetParam());
  call(keep, request);
  loops.client_loop.flush();
  call(keep, request);
  cut();
  until_closed();
  expect_each_completed_once();
  EXPECT_EQ(outcomes[0].error, code(errc::connection_lost));
  EXPECT_EQ(outcomes[1].error, code(errc::not_sent));
  EXPECT_LE(ran, 1U);
}

// Inline, copied, in a frame of its own, read in place.
INSTANTIATE_TEST_SUITE_P(Sizes, LossTest, testing::Values(0, 300, 1000, 50'000));

using LossOfManyTest = LossTest;

TEST_F(LossOfManyTest, AFullFrameWasPostedBeforeTheTurnsEnd) {
  constexpr std::size_t frame = transport::OpenFrame::most_joined + 1;
  for (std::size_t i = 0; i < frame; ++i) call(keep, {});
  cut();
  until_closed();
  expect_each_completed_once();
  EXPECT_EQ(count(code(errc::connection_lost)), frame);
}

TEST_F(LossOfManyTest, WhatStandsBehindAFullFrameWasNot) {
  constexpr std::size_t frame = transport::OpenFrame::most_joined + 1;
  for (std::size_t i = 0; i < frame + 3; ++i) call(keep, {});
  cut();
  until_closed();
  EXPECT_EQ(count(code(errc::connection_lost)), frame);
  for (std::size_t i = frame; i < outcomes.size(); ++i) EXPECT_EQ(outcomes[i].error, code(errc::not_sent));
}

TEST_F(LossOfManyTest, WhateverTheMomentNoRequestRunsThatSaysItHasNot) {
  Dice dice;
  for (std::size_t round = 0; round < rounds(100); ++round) {
    outcomes.clear();
    ran = 0;
    for (std::size_t i = dice.between(1, 40); i > 0; --i) {
      call(echo, message(dice.between(0, 1) ? 8 : 900));
      if (dice.one_in(8)) loops.settle(static_cast<int>(dice.between(1, 3)));
      if (dice.one_in(8)) loops.client_loop.flush();
    }
    cut();
    until_closed();
    loops.settle(20);
    expect_each_completed_once();
    const std::size_t answered = count({});
    EXPECT_EQ(answered + count(code(errc::connection_lost)) + count(code(errc::not_sent)), outcomes.size());
    EXPECT_GE(ran, answered);
    EXPECT_LE(ran, outcomes.size() - count(code(errc::not_sent)));
    reconnect();
  }
}

TEST_F(LossOfManyTest, AHandlerMayCloseTheClientWhileItsCallsComplete) {
  call(keep, {});
  loops.client_loop.flush();
  int times = 0;
  ASSERT_FALSE(client.call(keep, {}, [&](std::error_code error, rpc::Bytes) {
    ++times;
    EXPECT_EQ(error, code(errc::not_sent));
    client.close();
  }));
  call(keep, {});
  cut();
  loops.until("the end", [&] { return server.connections() == 0 && client.in_flight() == 0; });
  loops.settle();
  EXPECT_EQ(times, 1);
  EXPECT_FALSE(closed) << "not after close()";
  expect_each_completed_once();
  EXPECT_EQ(outcomes[0].error, code(errc::connection_lost));
  EXPECT_EQ(outcomes[1].error, code(errc::not_sent));
}

TEST_F(LossOfManyTest, NothingCanBeCalledAfterwards) {
  cut();
  EXPECT_EQ(client.call(keep, {}, [](std::error_code, rpc::Bytes) { FAIL(); }), code(errc::connection_lost));
  until_closed();
  EXPECT_EQ(client.call(keep, {}, [](std::error_code, rpc::Bytes) { FAIL(); }), code(errc::connection_lost));
}

}  // namespace
}  // namespace verbena::test
