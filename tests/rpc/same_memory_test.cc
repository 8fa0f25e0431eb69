// SPDX-License-Identifier: Apache-2.0
// Calls whose memory lies in one registration, of which some are given up: the buffer rule holds for those,
// and the others never notice.
#include <chrono>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;

class SameMemoryTest : public testing::Test {
 protected:
  /// Nobody reads requests meanwhile.
  template <class Condition>
  void turn_clients_until(const std::string& what, Condition condition) {
    wait_until(what, [&] {
      calls.client_loop.poll();
      return condition();
    });
  }

  Calls calls;
  rpc::Client other = connected(calls, calls.server.port());
  const Message request = message(200'000);
  Outcome early, late;
};

TEST_F(SameMemoryTest, ADeadlineEndsItsOwnConnectionAndNoOther) {
  ASSERT_FALSE(other.call(echo, request, late.handler()));
  ASSERT_FALSE(calls.client.call(echo, request, early.handler(), {.deadline = 5ms}));
  turn_clients_until("the deadline", [&] { return early.done(); });
  EXPECT_EQ(early.error, code(errc::timed_out));
  EXPECT_FALSE(late.done());
  calls.until("the other one's reply", [&] { return late.done(); });
  EXPECT_EQ(late.error, std::error_code{});
  EXPECT_EQ(late.reply, request);
  EXPECT_EQ(early.times, 1);
  EXPECT_TRUE(other.is_open());
}

TEST_F(SameMemoryTest, ADeadlineLeavesAConnectionWhoseMemoryNobodyElseUses) {
  const Message elsewhere(300'000);
  ASSERT_FALSE(calls.client.call(echo, elsewhere, early.handler(), {.deadline = 5ms}));
  turn_clients_until("the deadline", [&] { return early.done(); });
  EXPECT_EQ(early.error, code(errc::timed_out));
  EXPECT_TRUE(calls.client.is_open()) << "until the server tries to read";
}

TEST_F(SameMemoryTest, WhatIsReadTwiceIsRegisteredOnce) {
  for (int i = 0; i < 10; ++i) {
    Outcome outcome;
    ASSERT_FALSE(calls.client.call(echo, request, outcome.handler()));
    calls.until("the reply", [&] { return outcome.done(); });
    ASSERT_EQ(outcome.reply, request);
  }
  const Statistics& counted = calls.client_loop.statistics();
  if (counted.registrations_not_kept > 0) GTEST_SKIP() << "changes of mappings can't be watched here";
  EXPECT_EQ(counted.registrations, 1U);
  EXPECT_EQ(counted.registration_hits, 9U);
  EXPECT_GE(calls.client_loop.snapshot().kept_bytes, request.size());
}

TEST_F(SameMemoryTest, OneClientsEndLeavesTheOthersCall) {
  ASSERT_FALSE(other.call(echo, request, late.handler()));
  ASSERT_FALSE(calls.client.call(echo, request, early.handler()));
  calls.client_loop.poll();
  calls.client.close();
  EXPECT_EQ(early.error, code(errc::cancelled));
  calls.until("the other one's reply", [&] { return late.done(); });
  EXPECT_EQ(late.error, std::error_code{});
  EXPECT_EQ(late.reply, request);
}

// A reply is read to a place that shares its registration with another call's request.
TEST_F(SameMemoryTest, APlaceIsFreeWhenItsCallHasTimedOut) {
  constexpr auto untouched = std::byte{0x5a};
  Message memory(400'000, untouched);
  const std::span place = std::span(memory).first(200'000);
  Dice dice;
  for (std::size_t round = 0; round < rounds(50); ++round) {
    SCOPED_TRACE(round);
    Calls fresh;
    rpc::Client neighbour = connected(fresh, fresh.server.port());
    Outcome neighbours, overdue;
    const Message wanted = message(place.size(), 1);
    std::ranges::fill(memory, untouched);
    ASSERT_FALSE(neighbour.call(keep, std::span(memory).subspan(200'000), neighbours.handler()));
    ASSERT_FALSE(fresh.client.call(echo, wanted, overdue.handler(), {.deadline = 1ms, .reply_into = place}));
    for (std::size_t turns = dice.between(0, 40); turns > 0 && !overdue.done(); --turns) fresh.turn();
    wait_until("its end", [&] {
      fresh.client_loop.poll();
      if (dice.between(0, 3) == 0) fresh.server_loop.poll();
      return overdue.done();
    });
    if (!overdue.error) continue;
    EXPECT_EQ(overdue.error, code(errc::timed_out));
    std::ranges::fill(place, untouched);
    fresh.settle();
    EXPECT_TRUE(std::ranges::all_of(place, [](std::byte byte) { return byte == untouched; }));
  }
}

}  // namespace
}  // namespace verbena::test
