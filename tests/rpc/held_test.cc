// SPDX-License-Identifier: Apache-2.0
// A request that a handler keeps: it stays as it is, costs a credit, and its place comes back.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

constexpr rpc::MethodId hold = 5;

struct Holding : Calls {
  explicit Holding(const Options& options = small_options()) : Calls(options, options) {
    server.on(hold, [this](rpc::Bytes request, rpc::Reply& reply) {
      held.push_back(reply.hold(request));
      owed.push_back(std::move(reply));
    });
  }
  void answer_all() {
    for (std::size_t i = 0; i < owed.size(); ++i) owed[i].send(held[i].bytes());
    owed.clear();
    held.clear();
  }
  std::deque<rpc::Held> held;
  std::deque<rpc::Reply> owed;
};

TEST(HeldTest, WhatIsHeldStaysThoughOthersComeAndGo) {
  Dice dice;
  Holding calls;
  for (std::size_t round = 0; round < rounds(50); ++round) {
    std::vector<Message> requests;
    std::deque<Outcome> outcomes(4);
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      requests.push_back(message(dice.between(0, dice.one_in(2) ? 50 : 5000), static_cast<std::uint32_t>(i)));
      ASSERT_FALSE(calls.client.call(hold, requests[i], outcomes[i].handler()));
    }
    calls.until("all of them held", [&] { return calls.held.size() == requests.size(); });
    for (int i = 0; i < 40; ++i)
      ASSERT_NO_FATAL_FAILURE(calls.expect_echo(message(dice.between(0, 3000), 77)));
    // Large ones are held when they have been read: in another order.
    for (const rpc::Held& held : calls.held) {
      EXPECT_TRUE(std::ranges::any_of(
          requests, [&](const Message& request) { return std::ranges::equal(request, held.bytes()); }));
    }
    calls.answer_all();
    calls.until("all answers", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
    for (std::size_t i = 0; i < requests.size(); ++i) expect_equal(outcomes[i].reply, requests[i]);
  }
}

TEST(HeldTest, HeldRequestsUseUpTheCallersCredit) {
  Options options = small_options();
  options.call_depth = 2 * options.request_depth;
  Holding calls{options};
  std::deque<Outcome> outcomes(options.request_depth + 1);
  for (std::size_t i = 0; i < options.request_depth; ++i) {
    ASSERT_FALSE(calls.client.call(hold, message(8), outcomes[i].handler()));
    calls.until("one more held", [&] { return calls.held.size() == i + 1; });
  }
  calls.settle(200);
  EXPECT_EQ(calls.client.call(hold, message(8), outcomes.back().handler()), code(errc::no_credit));
  EXPECT_EQ(calls.server_loop.pinned_bytes(), options.budget().total());
  calls.answer_all();
  calls.until("credit again",
              [&] { return !calls.client.call(hold, message(8), outcomes.back().handler()); });
  calls.until("the last one", [&] { return calls.held.size() == 1; });
  calls.answer_all();
  calls.until("its answer", [&] { return outcomes.back().done(); });
}

TEST(HeldTest, AReceiveComesBackOnceHoweverOftenItIsHeld) {
  Holding calls;
  calls.server.on(6, [&](rpc::Bytes request, rpc::Reply& reply) {
    for (int i = 0; i < 3; ++i) calls.held.push_back(reply.hold(request));
    calls.held.pop_front();
    reply.send(calls.held.back().bytes());
  });
  for (std::uint32_t i = 0; i < 500; ++i) {
    Outcome outcome;
    const Message request = message(100, i);
    ASSERT_FALSE(calls.client.call(6, request, outcome.handler()));
    calls.until("the answer", [&] { return outcome.done(); });
    expect_equal(outcome.reply, request);
    expect_equal(calls.held.front().bytes(), request);
    calls.held.clear();
  }
}

TEST(HeldTest, WhatIsHeldOutlivesItsConnection) {
  Holding calls;
  const std::vector<Message> requests{message(20, 1), message(20'000, 2)};
  std::deque<Outcome> outcomes(2);
  for (std::size_t i = 0; i < 2; ++i)
    ASSERT_FALSE(calls.client.call(hold, requests[i], outcomes[i].handler()));
  calls.until("both held", [&] { return calls.held.size() == 2; });
  calls.client.close();
  calls.until("the end", [&] { return calls.server.connections() == 0; });
  calls.client = connected(calls, calls.server.port());
  for (int i = 0; i < 40; ++i) ASSERT_NO_FATAL_FAILURE(calls.expect_echo(message(3000, 5)));
  for (std::size_t i = 0; i < 2; ++i) expect_equal(calls.held[i].bytes(), requests[i]);
  calls.answer_all();
  for (int i = 0; i < 40; ++i) ASSERT_NO_FATAL_FAILURE(calls.expect_echo(message(8)));
}

TEST(HeldTest, HeldAfterTheAnswerIsACopy) {
  Holding calls;
  calls.server.on(6, [&](rpc::Bytes request, rpc::Reply& reply) {
    reply.send(request);
    calls.held.push_back(reply.hold(request));
  });
  std::deque<Outcome> outcomes(3 * small_options().request_depth);
  for (std::uint32_t i = 0; i < outcomes.size(); ++i) {
    calls.until("room", [&] { return !calls.client.call(6, message(30, i), outcomes[i].handler()); });
  }
  calls.until("all answers", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (std::uint32_t i = 0; i < outcomes.size(); ++i) expect_equal(calls.held[i].bytes(), message(30, i));
}

}  // namespace
}  // namespace verbena::test
