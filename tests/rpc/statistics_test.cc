// SPDX-License-Identifier: Apache-2.0
// What a loop counts: every call, every byte, every way to fail, once.
#include <algorithm>
#include <numeric>

#include "rpc/calls.h"
#include "verbena/snapshot.h"

namespace verbena::test {
namespace {

using rpc::Failed;
using rpc::MethodStatistics;
using rpc::Role;

/// The row of a method; an empty one where there is none.
MethodStatistics row(const Loop& loop, Role role, rpc::MethodId method, bool other = false) {
  for (MethodStatistics& its : loop.snapshot().methods) {
    if (its.role == role && its.method == method && its.is_other == other) return its;
  }
  return {};
}

std::uint64_t count(const MethodStatistics& row, Failed kind) {
  return row.errors[static_cast<std::size_t>(kind)];
}

Options timing_every(std::uint32_t calls) {
  Options options = small_options();
  options.latency_sample = calls;
  return options;
}

class StatisticsTest : public testing::Test {
 protected:
  MethodStatistics client_row(rpc::MethodId method) { return row(calls.client_loop, Role::client, method); }
  MethodStatistics server_row(rpc::MethodId method) { return row(calls.server_loop, Role::server, method); }
  /// Calls, and waits for the outcome.
  std::error_code outcome_of(rpc::MethodId method, std::chrono::nanoseconds deadline = rpc::forever) {
    Outcome outcome;
    EXPECT_FALSE(calls.client.call(method, message(8), outcome.handler(), deadline));
    calls.until("an outcome", [&] { return outcome.done(); });
    return outcome.error;
  }
  /// One call has failed, in this way.
  static void expect_one(const MethodStatistics& row, Failed kind) {
    EXPECT_EQ(row.calls, 1U);
    EXPECT_EQ(row.completed, 0U);
    EXPECT_EQ(row.failed(), 1U);
    EXPECT_EQ(count(row, kind), 1U);
  }

  Calls calls{timing_every(1), timing_every(1)};
};

TEST_F(StatisticsTest, CallsBytesAndTimesAreCountedOnBothSides) {
  calls.server.on(7, [](rpc::Bytes, rpc::Reply& reply) { reply.send(message(10)); });
  const std::size_t sizes[] = {0, 8, 1000, 100'000};
  for (const std::size_t size : sizes) {
    Outcome outcome;
    const Message request = message(size);
    ASSERT_FALSE(calls.client.call(7, request, outcome.handler()));
    calls.until("a reply", [&] { return outcome.done(); });
  }
  const MethodStatistics client = client_row(7);
  const MethodStatistics server = server_row(7);
  for (const MethodStatistics& each : {client, server}) {
    EXPECT_EQ(each.calls, std::size(sizes));
    EXPECT_EQ(each.completed, std::size(sizes));
    EXPECT_EQ(each.failed(), 0U);
    EXPECT_EQ(each.latency.count(), std::size(sizes));
    EXPECT_GT(each.latency.max(), 0U);
  }
  const std::size_t requests = std::accumulate(std::begin(sizes), std::end(sizes), std::size_t{0});
  const std::size_t replies = std::size(sizes) * 10;
  EXPECT_EQ(client.bytes_out, requests);
  EXPECT_EQ(server.bytes_in, requests);
  EXPECT_EQ(client.bytes_in, replies);
  EXPECT_EQ(server.bytes_out, replies);
  EXPECT_GT(client.latency.min(), server.latency.min());  // it has the handler in it
  EXPECT_EQ(calls.client_loop.statistics().bytes_sent, requests);
  EXPECT_EQ(calls.server_loop.statistics().bytes_received, requests);
  EXPECT_EQ(calls.server_loop.statistics().bytes_sent, replies);
  EXPECT_EQ(calls.client_loop.statistics().bytes_received, replies);
}

TEST_F(StatisticsTest, MethodZeroIsAMethodLikeAnyOther) {
  calls.server.on(0, [](rpc::Bytes, rpc::Reply& reply) { reply.send({}); });
  EXPECT_FALSE(outcome_of(0));
  EXPECT_EQ(client_row(0).completed, 1U);
  EXPECT_EQ(server_row(0).completed, 1U);
}

// ---- Every way to fail ----

TEST_F(StatisticsTest, ACallThatTimesOutAndItsLateReply) {
  EXPECT_EQ(outcome_of(keep, std::chrono::milliseconds{1}), code(errc::timed_out));
  expect_one(client_row(keep), Failed::timed_out);
  EXPECT_EQ(client_row(keep).latency.count(), 1U);
  EXPECT_GE(client_row(keep).latency.min(), 1'000'000U);
  calls.until("the request's arrival", [&] { return !calls.kept.empty(); });
  calls.kept.front().send({});
  calls.until("the late reply", [&] { return calls.client_loop.statistics().late_replies == 1; });
  expect_one(client_row(keep), Failed::timed_out);
  EXPECT_EQ(server_row(keep).completed, 1U);
}

TEST_F(StatisticsTest, ACancelledCall) {
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler()));
  calls.until("its arrival", [&] { return !calls.kept.empty(); });
  calls.client.close();
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  expect_one(client_row(keep), Failed::cancelled);
}

TEST_F(StatisticsTest, ALostConnectionOnBothSides) {
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler()));
  calls.until("its arrival", [&] { return !calls.kept.empty(); });
  EXPECT_EQ(calls.client_loop.statistics().connections_opened, 1U);
  EXPECT_EQ(calls.server_loop.statistics().connections_opened, 1U);
  { const rpc::Server gone = std::move(calls.server); }
  calls.until("the loss", [&] { return outcome.done(); });
  expect_one(client_row(keep), Failed::connection_lost);
  calls.settle();
  calls.kept.front().send({});
  expect_one(server_row(keep), Failed::connection_lost);
  EXPECT_EQ(calls.client_loop.statistics().connections_lost, 1U);
  EXPECT_EQ(calls.server_loop.statistics().connections_lost, 0U) << "it closed them itself";
}

TEST_F(StatisticsTest, ARejectedCall) {
  EXPECT_EQ(outcome_of(404), code(errc::rejected));
  expect_one(client_row(404), Failed::rejected);
  EXPECT_EQ(server_row(404).calls, 0U) << "a peer could fill the table with methods that don't exist";
  expect_one(row(calls.server_loop, Role::server, 0, true), Failed::rejected);
}

TEST_F(StatisticsTest, WhatHandlersSay) {
  calls.server.on(10, [](rpc::Bytes, rpc::Reply&) {});
  calls.server.on(11, [](rpc::Bytes, rpc::Reply& reply) { reply.fail(errc::overloaded); });
  calls.server.on(12, [](rpc::Bytes, rpc::Reply& reply) { reply.fail(errc::cancelled); });
  calls.server.on(13, [](rpc::Bytes, rpc::Reply& reply) { reply.fail(errc::no_buffer); });
  calls.server.on(14, [](rpc::Bytes, rpc::Reply& r) { r.send(message(small_options().large_bytes + 1)); });
  for (rpc::MethodId method = 10; method <= 14; ++method) EXPECT_TRUE(outcome_of(method));
  const Failed heard[] = {Failed::handler_failed, Failed::overloaded, Failed::cancelled,
                          Failed::handler_failed, Failed::handler_failed};
  const Failed said[] = {Failed::handler_failed, Failed::overloaded, Failed::cancelled, Failed::other,
                         Failed::handler_failed};
  for (rpc::MethodId method = 10; method <= 14; ++method) {
    SCOPED_TRACE(method);
    expect_one(client_row(method), heard[method - 10]);
    expect_one(server_row(method), said[method - 10]);
  }
}

TEST_F(StatisticsTest, WhatIsRefusedIsNoCallOfTheMethod) {
  std::deque<Outcome> outcomes;
  while (!calls.client.call(keep, {}, outcomes.emplace_back().handler())) {
  }
  EXPECT_EQ(calls.client_loop.statistics().overloaded, 1U);
  EXPECT_EQ(client_row(keep).calls, small_options().call_depth);
  EXPECT_EQ(client_row(keep).failed(), 0U);
  calls.client.close();  // before the outcomes are gone
}

TEST_F(StatisticsTest, CallsAreCompletedOrFailedOrUnderWay) {
  Dice dice;
  calls.server.on(7, [&](rpc::Bytes, rpc::Reply& reply) {
    switch (dice.between(0, 3)) {
      case 0:
        return reply.send({});
      case 1:
        return reply.fail(errc::overloaded);
      case 2:
        calls.kept.push_back(std::move(reply));
        return;
      default:
        return;  // unanswered
    }
  });
  std::uint64_t finished = 0;
  std::uint64_t started = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto deadline = dice.one_in(2) ? rpc::forever : std::chrono::microseconds{dice.between(1, 200)};
    if (!calls.client.call(
            7, message(dice.between(0, 100)), [&](auto, auto) { ++finished; }, deadline))
      ++started;
    calls.turn();
    if (calls.kept.size() > 4) {
      if (dice.one_in(2)) calls.kept.front().send({});
      calls.kept.pop_front();
    }
    const MethodStatistics client = client_row(7);
    ASSERT_EQ(client.calls, started);
    ASSERT_EQ(client.completed + client.failed(), finished);
    ASSERT_EQ(client.calls - finished, calls.client.in_flight());
    const MethodStatistics server = server_row(7);
    ASSERT_EQ(server.calls, server.completed + server.failed() + calls.kept.size());
  }
  EXPECT_GT(finished, 100U);
  calls.client.close();  // before what the handlers refer to is gone
}

// ---- Times ----

TEST(LatencySampleTest, ZeroTakesNone) {
  Calls calls{timing_every(0), timing_every(0)};
  for (int i = 0; i < 200; ++i) calls.expect_echo({});
  EXPECT_EQ(row(calls.client_loop, Role::client, echo).latency.count(), 0U);
  EXPECT_EQ(row(calls.server_loop, Role::server, echo).latency.count(), 0U);
}

TEST(LatencySampleTest, ByDefaultOneInSixtyFourOfEachMethod) {
  Options options = small_options();
  EXPECT_EQ(options.latency_sample, 64U);
  Calls calls{options, options};
  calls.server.on(7, [](rpc::Bytes, rpc::Reply& reply) { reply.send({}); });
  const std::size_t pairs = rounds(20'000);
  std::size_t finished = 0;
  for (std::size_t i = 0; i < 2 * pairs; ++i) {  // two methods that take turns
    ASSERT_FALSE(calls.client.call(i % 2 ? echo : 7, {}, [&](auto, auto) { ++finished; }));
    calls.until("a call", [&] { return finished == i + 1; });
  }
  for (const rpc::MethodId method : {echo, rpc::MethodId{7}}) {
    const auto expected = static_cast<double>(pairs) / 64;
    for (const auto& each :
         {row(calls.client_loop, Role::client, method), row(calls.server_loop, Role::server, method)}) {
      EXPECT_EQ(each.calls, pairs);
      EXPECT_NEAR(static_cast<double>(each.latency.count()), expected, expected / 2);
    }
  }
}

// ---- The rows ----

TEST_F(StatisticsTest, TheyOutliveClientsAndServers) {
  calls.expect_echo(message(8));
  calls.client = {};
  { const rpc::Server gone = std::move(calls.server); }
  EXPECT_EQ(client_row(echo).completed, 1U);
  EXPECT_EQ(server_row(echo).completed, 1U);
}

TEST_F(StatisticsTest, MethodsBeyondTheirNumberShareOneRow) {
  constexpr std::size_t more = 44;
  Dice dice;
  std::vector<rpc::MethodId> methods(rpc::most_methods + more);
  std::iota(methods.begin(), methods.end(), static_cast<rpc::MethodId>(dice.word()));
  for (const rpc::MethodId method : methods) {
    calls.server.on(method, [](rpc::Bytes, rpc::Reply& reply) { reply.send({}); });
    EXPECT_FALSE(outcome_of(method));
    EXPECT_FALSE(outcome_of(method));
  }
  for (const Loop* loop : {&calls.client_loop, &calls.server_loop}) {
    const Role role = loop == &calls.client_loop ? Role::client : Role::server;
    const Snapshot snapshot = loop->snapshot();
    ASSERT_EQ(snapshot.methods.size(), rpc::most_methods + 1);
    EXPECT_TRUE(snapshot.methods.back().is_other);
    EXPECT_EQ(snapshot.methods.back().title(), "other");
    std::uint64_t sum = 0;
    for (const MethodStatistics& each : snapshot.methods) {
      EXPECT_EQ(each.role, role);
      sum += each.completed;
    }
    EXPECT_EQ(sum, 2 * methods.size());
  }
}

struct Sum {
  static constexpr rpc::MethodId id = 9;
  static constexpr std::string_view name = "sum of doubles";
};

TEST_F(StatisticsTest, AMethodMayHaveAName) {
  calls.server.name<Sum>();
  calls.client.name(echo, "echo");
  EXPECT_EQ(server_row(9).title(), "sum of doubles");
  EXPECT_EQ(client_row(echo).title(), "echo");
  EXPECT_EQ(server_row(echo).title(), "1");
  for (const std::string& bad :
       {std::string{}, std::string(65, 'x'), std::string{"two\nlines"}, std::string{"é"}})
    EXPECT_THROW(calls.server.name(9, bad), Error) << bad;
}

// ---- The loop's own ----

TEST(LoopStatisticsTest, MessagesBytesAndWaitsForCredit) {
  Connected both;
  Inbox inbox(both.server);
  std::uint64_t bytes = 0;
  std::uint64_t sent = 0;
  for (; !both.client.send(message(100)); ++sent) bytes += 100;
  EXPECT_EQ(both.client_loop.statistics().credit_waits, 1U);
  EXPECT_EQ(both.client_loop.statistics().overloaded, 0U);
  both.until("them", [&] { return inbox.messages.size() == sent; });
  Noted done;
  const Message large = message(50'000);
  both.until("credit for it", [&] { return !both.client.send(large, done); });
  both.send_when_it_may(message(10));  // it waits for the large one before it
  both.until("a large one", [&] { return done.done() && inbox.messages.size() == sent + 2; });
  EXPECT_EQ(both.client_loop.statistics().bytes_sent, bytes + large.size() + 10);
  EXPECT_EQ(both.server_loop.statistics().bytes_received, bytes + large.size() + 10);
  EXPECT_EQ(both.server_loop.statistics().large_messages_read, 1U);
}

TEST(LoopStatisticsTest, OneSidedOperationsAndTheirBytes) {
  Connected both;
  Region theirs = both.server_loop.memory().allocate(4096);
  Region ours = both.client_loop.memory().allocate(4096);
  Noted put, get;
  ASSERT_FALSE(both.client.put(ours.slice(), theirs.remote(), 0, put));
  ASSERT_FALSE(both.client.get(ours.slice(), theirs.remote(), 0, get));
  both.until("them", [&] { return put.done() && get.done(); });
  EXPECT_EQ(both.client_loop.statistics().one_sided_operations, 2U);
  EXPECT_EQ(both.client_loop.statistics().one_sided_bytes, 8192U);
}

TEST(LoopStatisticsTest, ASnapshotSaysWhoseItIs) {
  Connected both;
  const Snapshot server = both.server_loop.snapshot();
  const Snapshot client = both.client_loop.snapshot();
  EXPECT_EQ(server.process, getpid());
  EXPECT_NE(server.loop, client.loop);
  EXPECT_EQ(server.device, device_name());
  EXPECT_EQ(server.connections, 1U);
  EXPECT_EQ(server.peers, small_options().peers);
  EXPECT_EQ(server.pinned_bytes, small_options().budget().total());
  EXPECT_GT(server.age_ns, 0);
  EXPECT_GT(server.counters.turns, 0U);
  EXPECT_TRUE(server.methods.empty());
}

}  // namespace
}  // namespace verbena::test
