// SPDX-License-Identifier: Apache-2.0
// Clients that come back by themselves when their connection is lost, and what doesn't come back with them.
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <optional>

#include "rpc/calls.h"
#include "rpc/client_state.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr rpc::ReconnectPolicy quick{.first = 1ms, .most = 10ms};

/// A server that comes and goes at one port, and a client that follows it.
class ReconnectTest : public testing::Test {
 protected:
  ReconnectTest() {
    serve();
    port = server->port();
  }
  void serve(const Options& options = small_options()) {
    server_loop.emplace(options);
    server.emplace(*server_loop, address_of(port));
    server->on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
    server->on(keep, [this](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
  }
  void end_server() {
    kept.clear();
    server.reset();
    server_loop.reset();
  }
  void connect(const rpc::ReconnectPolicy& policy = quick) {
    rpc::connect(loop, address_of(port), policy, [this](const Error* error, rpc::Client made) {
      if (error) ADD_FAILURE() << error->what();
      client.emplace(std::move(made));
    });
    until("a client", [this] { return client && client->is_open() && server->connections() == 1; });
    client->on_closed([this](std::error_code error, std::string_view text) {
      ++closed;
      ended = error;
      why = text;
    });
    client->on_reconnected([this] { ++reconnected; });
  }
  void turn() {
    if (server_loop) {
      server_loop->poll();
      Loops::look(*server_loop);
    }
    loop.poll();
    Loops::look(loop);
  }
  template <class Condition>
  void until(const std::string& what, Condition condition) {
    wait_until(what, [&] {
      turn();
      return condition();
    });
  }
  template <class Condition>
  bool stays_for(std::chrono::milliseconds span, Condition condition) {
    return stays(
        [&] {
          turn();
          return condition();
        },
        span);
  }
  void until_lost() {
    until("the loss", [this] { return !client->is_open(); });
  }
  void expect_echo() {
    Outcome outcome;
    const Message request = message(700);
    ASSERT_EQ(client->call(echo, request, outcome.handler()), std::error_code{});
    until("an echo", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, std::error_code{});
    expect_equal(outcome.reply, request);
  }
  /// How many calls it takes until they are refused.
  std::size_t room() {
    outcomes.clear();
    while (!client->call(keep, {}, outcomes.emplace_back().handler())) {
    }
    outcomes.pop_back();
    return outcomes.size();
  }

  std::uint16_t port = 0;
  std::deque<Outcome> outcomes;  // outlive the client
  std::optional<Loop> server_loop;
  std::deque<rpc::Reply> kept;
  std::optional<rpc::Server> server;
  Loop loop{small_options()};
  std::optional<rpc::Client> client;
  int reconnected = 0;
  int closed = 0;
  std::error_code ended;
  std::string why;
};

TEST_F(ReconnectTest, TheClientFollowsItsServer) {
  connect();
  EXPECT_EQ(client->reconnections(), 0U);
  for (int round = 1; round <= 5; ++round) {
    expect_echo();
    end_server();
    until_lost();
    serve();
    until("the client", [&] { return client->is_open(); });
    EXPECT_EQ(reconnected, round);
    EXPECT_EQ(client->reconnections(), static_cast<std::uint64_t>(round));
  }
  expect_echo();
  EXPECT_EQ(closed, 0);
}

TEST_F(ReconnectTest, CallsInFlightCompleteOnceAndOthersAreRefusedMeanwhile) {
  connect();
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(client->call(keep, {}, outcomes.emplace_back().handler()));
  until("the requests", [&] { return kept.size() == 5; });
  server.reset();  // it leaves them unanswered
  until_lost();
  kept.clear();
  until("their end", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  EXPECT_EQ(client->in_flight(), 0U);
  EXPECT_EQ(client->call(echo, {}, [](std::error_code, rpc::Bytes) { FAIL(); }), code(errc::connection_lost));
  EXPECT_EQ(client->eager_size(), 0U);
  serve();
  until("the client", [&] { return client->is_open(); });
  expect_echo();
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.times, 1);
    EXPECT_EQ(outcome.error, code(errc::connection_lost));
  }
}

TEST_F(ReconnectTest, ItGivesUpAfterItsTries) {
  connect({.first = 1ms, .most = 2ms, .tries = 3});
  end_server();
  until("the end", [&] { return closed > 0; });
  EXPECT_EQ(ended, code(errc::connection_refused));
  EXPECT_NE(why.find("failed 3 times"), std::string::npos) << why;
  EXPECT_NE(why.find("nobody listens"), std::string::npos) << why;
  serve();
  EXPECT_TRUE(stays_for(100ms, [&] { return server->connections() == 0 && !client->is_open(); }));
  EXPECT_EQ(closed, 1);
  EXPECT_EQ(reconnected, 0);
}

TEST_F(ReconnectTest, EachLossHasAllItsTries) {
  connect({.first = 20ms, .most = 20ms, .tries = 2, .jitter = 0});
  for (int round = 0; round < 5; ++round) {
    end_server();
    until_lost();
    serve();
    until("the client", [&] { return client->is_open(); });
  }
  EXPECT_EQ(closed, 0);
}

TEST_F(ReconnectTest, ItStaysAwayAfterClose) {
  connect({.first = 20ms, .most = 20ms, .jitter = 0});
  end_server();
  until_lost();
  client->close();
  serve();
  EXPECT_TRUE(stays_for(150ms, [&] { return server->connections() == 0; }));
  EXPECT_EQ(closed, 0);
  EXPECT_FALSE(client->is_open());
}

TEST_F(ReconnectTest, ClosingAnOpenOneIsFinalToo) {
  connect();
  client->close();
  until("its end", [&] { return server->connections() == 0; });
  EXPECT_TRUE(stays_for(100ms, [&] { return server->connections() == 0; }));
  EXPECT_EQ(closed, 0);
}

TEST_F(ReconnectTest, ItMayBeDestroyedAtAnyMoment) {
  for (int turns = 0; turns < 60; ++turns) {
    connect({.first = 1ms, .most = 1ms, .jitter = 1});
    end_server();
    until_lost();
    serve();
    for (int i = 0; i < turns; ++i) turn();
    client.reset();
    until("its end", [&] { return server->connections() == 0; });
  }
}

TEST_F(ReconnectTest, ItsHandlersMayDestroyIt) {
  connect();
  client->on_reconnected([this] {
    ++reconnected;
    client.reset();
  });
  end_server();
  until_lost();
  serve();
  until("the client", [&] { return reconnected > 0; });
  until("its end", [&] { return server->connections() == 0; });
  connect({.first = 1ms, .most = 1ms, .tries = 1});
  client->on_closed([this](std::error_code, std::string_view) {
    ++closed;
    client.reset();
  });
  end_server();
  until("the end", [&] { return closed > 0; });
  for (int i = 0; i < 100; ++i) turn();
}

TEST_F(ReconnectTest, ACallsHandlerMayDestroyItWhenItIsLost) {
  connect();
  int times = 0;
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(client->call(keep, {}, [&](std::error_code, rpc::Bytes) {
      ++times;
      client.reset();
    }));
  }
  until("the requests", [&] { return kept.size() == 3; });
  end_server();
  until("their end", [&] { return times == 3; });
  for (int i = 0; i < 1000; ++i) turn();
}

TEST_F(ReconnectTest, OnReconnectedMayCall) {
  connect();
  client->on_reconnected([this] { EXPECT_FALSE(client->call(echo, {}, outcomes.emplace_back().handler())); });
  for (std::size_t round = 1; round <= 3; ++round) {
    end_server();
    until_lost();
    serve();
    until("the call", [&] { return outcomes.size() == round && outcomes.back().done(); });
    EXPECT_EQ(outcomes.back().error, std::error_code{});
  }
}

TEST_F(ReconnectTest, TheServersOptionsMayChange) {
  Options shallow = small_options();
  shallow.call_depth = shallow.request_depth = 4;
  connect();
  EXPECT_EQ(room(), small_options().call_depth);
  for (const auto& options : {shallow, small_options(), shallow}) {
    end_server();
    until_lost();
    serve(options);
    until("the client", [&] { return client->is_open(); });
    EXPECT_EQ(room(), options.call_depth);
    until("the requests", [&] { return kept.size() == options.call_depth; });
    kept.clear();
    until("the replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
    expect_echo();
  }
}

TEST_F(ReconnectTest, TheFirstConnectionIsTriedOnce) {
  end_server();
  int times = 0;
  rpc::connect(loop, address_of(port), quick, [&](const Error* error, rpc::Client made) {
    ++times;
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->code(), code(errc::connection_refused));
    EXPECT_FALSE(made.is_open());
  });
  until("an answer", [&] { return times > 0; });
  EXPECT_THROW(rpc::connect(loop, address_of(port), quick), Error);
  EXPECT_THROW(rpc::connect(loop, address_of(port), {.first = 0ms}), Error);
  EXPECT_EQ(times, 1);
}

TEST_F(ReconnectTest, ItMayGoBeforeAGivenContext) {
  for (int turns = 0; turns < 30; ++turns) {
    boost::asio::io_context context{1};
    const auto turn_all = [&] {
      context.restart();
      context.poll();
      turn();
    };
    {
      Loop inside{context, small_options()};
      std::optional<rpc::Client> follower;
      rpc::connect(inside, address_of(port), quick,
                   [&](const Error*, rpc::Client made) { follower.emplace(std::move(made)); });
      wait_until("a client", [&] {
        turn_all();
        return follower && follower->is_open();
      });
      end_server();
      wait_until("its loss", [&] {
        turn_all();
        return !follower->is_open();
      });
      serve();
      for (int i = 0; i < turns; ++i) turn_all();
    }
    turn_all();
  }
}

// ---- The old epoch ----

/// Both ends of a client's channels are in the test's hands.
class EpochTest : public testing::Test {
 protected:
  struct Request {
    transport::Channel* channel;
    transport::CallHeader call;
  };
  EpochTest() {
    listener = listen(loops.server_loop, address_of(0), [this](Connection made) {
      made.channel()->calls = {this, &deliver, nullptr};
      served.push_back(std::move(made));
    });
    Connection connection;
    connect(loops.client_loop, address_of(listener.port()),
            [&](const Error*, Connection made) { connection = std::move(made); });
    loops.until("a connection", [&] { return connection.is_open() && served.size() == 1; });
    channel = connection.channel();
    auto state = std::make_unique<rpc::ClientState>(loops.client_loop, std::move(connection));
    state->reconnect(address_of(listener.port()), quick, 1);
    client = rpc::Client{std::move(state)};
    client.on_closed([this](std::error_code error, std::string_view) { ended = error; });
  }
  static void deliver(void* self, transport::Channel& on, transport::Kind, const transport::CallHeader& call,
                      rpc::Bytes) {
    static_cast<EpochTest*>(self)->requests.push_back({&on, call});
  }
  void cut(errc error = errc::retry_exceeded) { channel->fail(make_error_code(error), "cut by the test"); }
  void until_requests(std::size_t count) {
    loops.until("requests", [&] { return requests.size() == count; });
  }
  Outcome& call() {
    Outcome& outcome = outcomes.emplace_back();
    EXPECT_EQ(client.call(keep, {}, outcome.handler()), std::error_code{});
    return outcome;
  }

  std::deque<Outcome> outcomes;
  Loops loops;
  std::vector<Connection> served;
  std::vector<Request> requests;
  Listener listener;
  transport::Channel* channel = nullptr;
  std::optional<std::error_code> ended;
  rpc::Client client;
};

TEST_F(EpochTest, AnAnswerToACallOfTheOldOneCompletesNoNewOne) {
  const Outcome& old = call();
  until_requests(1);
  cut();
  loops.until("the client", [&] { return client.reconnections() == 1; });
  EXPECT_EQ(old.error, code(errc::connection_lost));
  const Outcome& first = call();
  const Outcome& second = call();
  until_requests(3);
  // The worst case: in the new epoch's own words, and for the very slot that the old call had.
  ASSERT_TRUE(requests[1].call.slot == requests[0].call.slot ||
              requests[2].call.slot == requests[0].call.slot);
  EXPECT_EQ(requests[2].channel->send_reply(requests[0].call, message(8)), errc{});
  loops.until("its drop", [&] { return loops.client_loop.statistics().late_replies == 1; });
  EXPECT_FALSE(first.done() || second.done());
  EXPECT_EQ(requests[1].channel->send_reply(requests[1].call, message(9)), errc{});
  loops.until("the right answer", [&] { return first.done(); });
  expect_equal(first.reply, message(9));
  EXPECT_EQ(old.times, 1);
  EXPECT_FALSE(second.done());
}

TEST_F(EpochTest, AReplyKeptAcrossTheLossGoesNowhere) {
  rpc::Server server{loops.server_loop, address_of(0)};
  std::deque<rpc::Reply> kept;
  server.on(keep, [&](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
  Connection connection;
  connect(loops.client_loop, address_of(server.port()),
          [&](const Error*, Connection made) { connection = std::move(made); });
  loops.until("a connection", [&] { return connection.is_open(); });
  channel = connection.channel();
  auto state = std::make_unique<rpc::ClientState>(loops.client_loop, std::move(connection));
  state->reconnect(address_of(server.port()), quick, 1);
  client = rpc::Client{std::move(state)};
  const Outcome& old = call();
  loops.until("a request", [&] { return kept.size() == 1; });
  cut();
  loops.until("the client", [&] { return client.reconnections() == 1; });
  const Outcome& next = call();
  loops.until("the next", [&] { return kept.size() == 2; });
  kept[0].send(message(8));
  loops.settle();
  EXPECT_FALSE(next.done());
  kept[1].send(message(9));
  loops.until("its own answer", [&] { return next.done(); });
  expect_equal(next.reply, message(9));
  EXPECT_EQ(old.times, 1);
}

TEST_F(EpochTest, APeerThatBreaksTheProtocolIsNotMetAgain) {
  cut(errc::protocol_violation);
  loops.until("the end", [&] { return ended.has_value(); });
  EXPECT_EQ(ended, code(errc::protocol_violation));
  const auto end = Clock::now() + 100ms;
  loops.until("some time", [&] { return Clock::now() > end; });
  EXPECT_EQ(served.size(), 1U);
  EXPECT_EQ(client.reconnections(), 0U);
}

TEST_F(EpochTest, ADeadlineThatHasPassedHoldsNoSlotInTheNewOne) {
  for (unsigned i = 0; i < small_options().call_depth; ++i) {
    ASSERT_FALSE(client.call(keep, {}, outcomes.emplace_back().handler(), 5ms));
  }
  loops.until("the deadlines", [&] { return client.in_flight() == 0; });
  EXPECT_EQ(client.call(keep, {}, [](std::error_code, rpc::Bytes) { FAIL(); }), code(errc::overloaded));
  cut();
  loops.until("the client", [&] { return client.reconnections() == 1; });
  for (unsigned i = 0; i < small_options().call_depth; ++i) call();
  for (const Outcome& outcome : outcomes) EXPECT_LE(outcome.times, 1);
}

}  // namespace
}  // namespace verbena::test
