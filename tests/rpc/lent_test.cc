// SPDX-License-Identifier: Apache-2.0
// Large requests in pool memory, lent to the handler of another process of this host.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "rpc/calls.h"
#include "support/child.h"
#include "verbena/pool.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Methods of the lender's peer.
constexpr rpc::MethodId sum_up = 10;       // answers with the sum of the request's bytes
constexpr rpc::MethodId hold_on = 11;      // keeps the request, and answers
constexpr rpc::MethodId sum_of_held = 12;  // answers with the sum of what it keeps
constexpr rpc::MethodId sum_when_told =
    13;  // tells the test that it runs, waits for its word, sums up, tells
constexpr rpc::MethodId wait_when_told = 14;  // tells the test that it runs, waits for its word
constexpr rpc::MethodId counts = 15;          // answers with Counts
constexpr rpc::MethodId answer_first = 16;    // answers at great length, and only then does as sum_when_told

struct Counts {
  std::uint64_t lent;
  std::uint64_t read;
  std::uint64_t sums;  // handlers of sum_up that have run
};

std::uint64_t sum_of(rpc::Bytes bytes) {
  return std::transform_reduce(bytes.begin(), bytes.end(), std::uint64_t{0}, std::plus{},
                               [](std::byte byte) { return static_cast<std::uint64_t>(byte); });
}

template <class T>
void answer(rpc::Reply& reply, const T& value) {
  reply.send(std::as_bytes(std::span{&value, 1}));
}

/// First of all it is told whether it borrows.
const Role borrower{
    "borrower", [](Line& test) {
      Options options = small_options();
      options.lend = test.get<bool>();
      Loop loop{options};
      rpc::Server server{loop, address_of(0)};
      rpc::Held held;
      std::uint64_t sums = 0;
      server.on(sum_up, [&](rpc::Bytes request, rpc::Reply& reply) {
        ++sums;
        answer(reply, sum_of(request));
      });
      server.on(hold_on, [&](rpc::Bytes request, rpc::Reply& reply) {
        held = reply.hold(request.subspan(1));
        reply.send({});
      });
      server.on(sum_of_held, [&](rpc::Bytes, rpc::Reply& reply) {
        answer(reply, sum_of(held.bytes()));
        held = {};
      });
      server.on(sum_when_told, [&](rpc::Bytes request, rpc::Reply& reply) {
        test.put('r');
        test.get<char>();
        const std::uint64_t sum = sum_of(request);
        test.put(sum);
        answer(reply, sum);
      });
      server.on(wait_when_told, [&](rpc::Bytes, rpc::Reply& reply) {
        test.put('r');
        test.get<char>();
        reply.send({});
      });
      server.on(answer_first, [&](rpc::Bytes request, rpc::Reply& reply) {
        reply.send(Message(50'000));
        loop.flush();
        test.put('r');
        test.get<char>();
        test.put(sum_of(request));
      });
      server.on(counts, [&](rpc::Bytes, rpc::Reply& reply) {
        const Statistics& statistics = loop.statistics();
        answer(reply, Counts{statistics.large_messages_lent, statistics.large_messages_read, sums});
      });
      test.put(server.port());
      loop.run();
    }};

class LentTest : public testing::Test {
 protected:
  static constexpr std::size_t length = 60'000;

  explicit LentTest(bool lends = true, bool borrows = true) : loop(options(lends)) {
    child.line().put(borrows);
    client = rpc::connect(loop, address_of(child.line().get<std::uint16_t>()));
    region = loop.memory().allocate(length);
    fill(1);
  }
  void SetUp() override {
    if (!on_soft0()) GTEST_SKIP() << "nothing is lent by way of another device";
  }
  static Options options(bool lends) {
    Options chosen = small_options();
    chosen.lend = lends;
    chosen.pool_bytes = 1 << 20;
    return chosen;
  }

  void fill(unsigned value) { std::ranges::fill(region.bytes(), static_cast<std::byte>(value)); }
  void until(const char* what, auto condition) {
    wait_until(what, [&] {
      loop.poll();
      return condition();
    });
  }
  template <class T>
  T call(rpc::MethodId method, rpc::Bytes request = {}) {
    Outcome outcome;
    EXPECT_EQ(client.call(method, request, outcome.handler()), std::error_code{});
    until("a reply", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, std::error_code{});
    T value{};
    EXPECT_EQ(outcome.reply.size(), sizeof value);
    std::memcpy(&value, outcome.reply.data(), std::min(outcome.reply.size(), sizeof value));
    return value;
  }
  /// Calls a method that waits for the test's word, and waits until it runs.
  void begin(Outcome& outcome, rpc::MethodId method, rpc::Bytes request, rpc::CallOptions how = {}) {
    ASSERT_EQ(client.call(method, request, outcome.handler(), how), std::error_code{});
    loop.flush();
    child.line().get<char>();
  }
  void expect_still_usable() {
    EXPECT_EQ(call<std::uint64_t>(sum_up, Message(100, std::byte{2})), 200U);
    fill(3);
    EXPECT_EQ(call<std::uint64_t>(sum_up, region.bytes()), 3 * length);
  }

  Child child{"borrower"};
  Loop loop;
  rpc::Client client;
  Region region;
};

TEST_F(LentTest, AHandlerReadsPoolMemoryWhereItLies) {
  EXPECT_EQ(call<std::uint64_t>(sum_up, region.bytes()), length);
  fill(2);
  EXPECT_EQ(call<std::uint64_t>(sum_up, region.bytes()), 2 * length);
  const auto there = call<Counts>(counts);
  EXPECT_EQ(there.lent, 2U);
  EXPECT_EQ(there.read, 0U);
}

TEST_F(LentTest, AnyPartOfARegionMayBeLent) {
  Dice dice;
  std::size_t lent = 0;
  for (int i = 0; i < 200; ++i) {
    const std::size_t from = dice.between(0, length - 1);
    const std::size_t size = dice.between(1, length - from);
    const std::uint64_t stamp = dice.word();
    std::memcpy(region.bytes().data() + from, &stamp, std::min(size, sizeof stamp));
    const auto part = region.bytes().subspan(from, size);
    lent += size > small_options().eager_size;
    EXPECT_EQ(call<std::uint64_t>(sum_up, part), sum_of(part)) << from << ", " << size << " bytes";
  }
  EXPECT_EQ(call<Counts>(counts).lent, lent);
}

TEST_F(LentTest, ManyAtOnceAreAnsweredEach) {
  std::deque<Outcome> outcomes;
  std::vector<std::uint64_t> sums;
  const std::size_t part = small_options().eager_size + 100;
  for (std::size_t from = 0; from + part <= length; from += part) {
    std::ranges::fill(region.bytes().subspan(from, part), static_cast<std::byte>(from / part));
    const auto bytes = region.bytes().subspan(from, part);
    until("a place", [&] {
      return !client.call(sum_up, bytes, outcomes.emplace_back().handler()) || (outcomes.pop_back(), false);
    });
    sums.push_back(sum_of(bytes));
  }
  until("all replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    ASSERT_EQ(outcomes[i].error, std::error_code{});
    std::uint64_t sum = 0;
    std::memcpy(&sum, outcomes[i].reply.data(), sizeof sum);
    EXPECT_EQ(sum, sums[i]);
  }
}

TEST_F(LentTest, AVectorInThePoolIsLentByConstruction) {
  std::pmr::vector<std::uint8_t> vector(length, 4, &loop.memory().pool());
  EXPECT_EQ(call<std::uint64_t>(sum_up, std::as_bytes(std::span{vector})), 4 * length);
  vector.assign(length, 9);
  EXPECT_EQ(call<std::uint64_t>(sum_up, std::as_bytes(std::span{vector})), 9 * length);
  const auto there = call<Counts>(counts);
  EXPECT_EQ(there.lent, 2U);
  EXPECT_EQ(there.read, 0U);
  EXPECT_EQ(loop.statistics().registrations, 0U);
}

TEST_F(LentTest, MemoryOfOnesOwnIsReadAsEver) {
  const Message bytes(length, std::byte{5});
  EXPECT_EQ(call<std::uint64_t>(sum_up, bytes), 5 * length);
  const auto there = call<Counts>(counts);
  EXPECT_EQ(there.lent, 0U);
  EXPECT_EQ(there.read, 1U);
}

TEST_F(LentTest, WhatIsHeldStaysAsItWas) {
  Outcome outcome;
  ASSERT_EQ(client.call(hold_on, region.bytes(), outcome.handler()), std::error_code{});
  until("a reply", [&] { return outcome.done(); });
  fill(8);
  EXPECT_EQ(call<std::uint64_t>(sum_of_held), length - 1);
  expect_still_usable();
}

TEST_F(LentTest, ARegionMayGoWhenItsCallHasCompleted) {
  for (int i = 0; i < 20; ++i) {
    Region other = loop.memory().allocate(length);
    std::ranges::fill(other.bytes(), std::byte{4});
    EXPECT_EQ(call<std::uint64_t>(sum_up, other.bytes()), 4 * length);
  }
  EXPECT_EQ(call<Counts>(counts).lent, 20U);
  expect_still_usable();
}

// Its caller waits for the handler as long as for any access; then the connection is lost, and the handler
// goes on reading memory whose lender has unmapped it.
TEST_F(LentTest, ARegionThatGoesEarlyStaysForItsReader) {
  Outcome outcome;
  begin(outcome, sum_when_told, region.bytes());
  region = {};
  until("the loss", [&] { return outcome.done(); });
  EXPECT_TRUE(outcome.error);
  child.line().put('g');
  EXPECT_EQ(child.line().get<std::uint64_t>(), length);
}

// The caller's pages are still being read: its call completes when that is over.
TEST_F(LentTest, ADeadlineWaitsForAHandlerThatReads) {
  Outcome outcome;
  begin(outcome, sum_when_told, region.bytes(), {.deadline = 5ms});
  const auto due = Clock::now() + 50ms;
  until("ten times the deadline", [&] { return Clock::now() > due; });
  EXPECT_EQ(outcome.times, 0);
  child.line().put('g');
  until("its end", [&] { return outcome.done(); });
  EXPECT_EQ(child.line().get<std::uint64_t>(), length);
  EXPECT_EQ(outcome.times, 1);
  expect_still_usable();
}

// What nobody reads yet is taken back at once, and never read.
TEST_F(LentTest, ADeadlineTakesBackWhatNobodyReadsYet) {
  Outcome busy, late;
  begin(busy, wait_when_told, {});
  ASSERT_EQ(client.call(sum_up, region.bytes(), late.handler(), {.deadline = 5ms}), std::error_code{});
  until("its deadline", [&] { return late.done(); });
  EXPECT_EQ(late.error, code(errc::timed_out));
  fill(9);
  child.line().put('g');
  until("the other call's end", [&] { return busy.done(); });
  EXPECT_EQ(busy.error, std::error_code{});
  EXPECT_EQ(call<Counts>(counts).sums, 0U);
  expect_still_usable();
}

// Though another part of the same Region is being read.
TEST_F(LentTest, ADeadlineTakesBackOneLoanAmongOthers) {
  const auto first = region.bytes().first(length / 2), second = region.bytes().last(length / 2);
  Outcome busy, late;
  begin(busy, sum_when_told, first);
  ASSERT_EQ(client.call(sum_up, second, late.handler(), {.deadline = 5ms}), std::error_code{});
  const auto began = Clock::now();
  until("its deadline", [&] { return late.done(); });
  EXPECT_LT(Clock::now() - began, 900ms);
  EXPECT_EQ(late.error, code(errc::timed_out));
  EXPECT_FALSE(busy.done());
  child.line().put('g');
  until("the other call's end", [&] { return busy.done(); });
  EXPECT_EQ(busy.error, std::error_code{});
  EXPECT_EQ(child.line().get<std::uint64_t>(), length / 2);
  EXPECT_EQ(call<Counts>(counts).sums, 0U);
  expect_still_usable();
}

// The buffer rule holds for whoever answers and goes on reading.
TEST_F(LentTest, AReplyBeforeTheHandlersEndCompletesNothingThatIsStillRead) {
  Outcome outcome;
  begin(outcome, answer_first, region.bytes());
  until("an end", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.times, 1);
  fill(7);
  child.line().put('g');
  EXPECT_EQ(child.line().get<std::uint64_t>(), length) << "the handler has seen what the caller wrote later";
}

TEST_F(LentTest, ACancelledCallIsTakenBackToo) {
  Outcome busy, late;
  begin(busy, wait_when_told, {});
  rpc::Ticket ticket;
  ASSERT_EQ(client.call(sum_up, region.bytes(), late.handler(), {.ticket = &ticket}), std::error_code{});
  loop.flush();
  client.cancel(ticket);
  until("its end", [&] { return late.done(); });
  EXPECT_EQ(late.error, code(errc::cancelled));
  child.line().put('g');
  until("the other call's end", [&] { return busy.done(); });
  EXPECT_EQ(call<Counts>(counts).sums, 0U);
  expect_still_usable();
}

// A second, and no longer. Then the caller has its memory for itself, and the handler goes on reading what it
// was lent.
TEST_F(LentTest, AHandlerThatGoesOnReadingLosesTheConnectionAndSeesNothingNew) {
  Outcome outcome;
  begin(outcome, sum_when_told, region.bytes(), {.deadline = 5ms});
  const auto began = Clock::now();
  until("the end of patience", [&] { return outcome.done(); });
  EXPECT_LT(Clock::now() - began, 4s);
  EXPECT_TRUE(outcome.error);
  fill(7);
  child.line().put('g');
  EXPECT_EQ(child.line().get<std::uint64_t>(), length) << "the handler has seen what the caller wrote later";
  EXPECT_TRUE(std::ranges::all_of(region.bytes(), [](std::byte byte) { return byte == std::byte{7}; }));
}

TEST_F(LentTest, AStoppedHandlerIsNotWaitedForLonger) {
  Outcome outcome;
  begin(outcome, sum_when_told, region.bytes(), {.deadline = 5ms});
  child.signal(SIGSTOP);
  until("the end of patience", [&] { return outcome.done(); });
  EXPECT_TRUE(outcome.error);
  fill(7);
  child.signal(SIGCONT);
  child.line().put('g');
  EXPECT_EQ(child.line().get<std::uint64_t>(), length);
}

TEST_F(LentTest, AHandlersDeathLosesTheCall) {
  Outcome outcome;
  begin(outcome, sum_when_told, region.bytes());
  child.kill();
  until("its loss", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::connection_lost));
  EXPECT_EQ(outcome.times, 1);
}

TEST_F(LentTest, AClosedClientTakesItsMemoryBack) {
  Outcome busy, late;
  begin(busy, wait_when_told, {});
  ASSERT_EQ(client.call(sum_up, region.bytes(), late.handler()), std::error_code{});
  loop.flush();
  client.close();
  EXPECT_EQ(late.error, code(errc::cancelled));
  child.line().put('g');
  region = {};
}

class UnwillingTest : public LentTest {
 protected:
  UnwillingTest(bool lends, bool borrows) : LentTest(lends, borrows) {}
  void SetUp() override {}  // on any device
  void expect_read() {
    EXPECT_EQ(call<std::uint64_t>(sum_up, region.bytes()), length);
    const auto there = call<Counts>(counts);
    EXPECT_EQ(there.lent, 0U);
    EXPECT_EQ(there.read, 1U);
  }
};
struct UnwillingLenderTest : UnwillingTest {
  UnwillingLenderTest() : UnwillingTest(false, true) {}
};
struct UnwillingBorrowerTest : UnwillingTest {
  UnwillingBorrowerTest() : UnwillingTest(true, false) {}
};
TEST_F(UnwillingLenderTest, ItsRequestsAreRead) {
  expect_read();
}
TEST_F(UnwillingBorrowerTest, ItReadsRequests) {
  expect_read();
}

// A thread can't wait for itself: within a process the bytes are copied.
TEST(LentWithinAProcessTest, ARequestIsCopiedAndItsHandlerMayCloseTheClient) {
  Calls calls;
  Region region = calls.client_loop.memory().allocate(50'000);
  std::ranges::fill(region.bytes(), std::byte{6});
  Outcome outcome;
  calls.server.on(sum_up, [&](rpc::Bytes request, rpc::Reply& reply) {
    EXPECT_EQ(sum_of(request), 300'000U);
    calls.client.close();
    region = {};
    reply.send({});
  });
  ASSERT_EQ(calls.client.call(sum_up, region.bytes(), outcome.handler()), std::error_code{});
  calls.until("its end", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  EXPECT_EQ(calls.server_loop.statistics().large_messages_lent, 0U);
}

}  // namespace
}  // namespace verbena::test
