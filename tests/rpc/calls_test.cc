// SPDX-License-Identifier: Apache-2.0
// Calls and their answers, one after the other and many at once.
#include <algorithm>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

TEST(CallsTest, RequestsAndRepliesOfEverySizeComeBack) {
  Calls calls;
  const std::size_t eager = small_options().eager_size;
  const std::size_t sizes[] = {0,         1,     8,         100,    150,     200,
                               eager - 1, eager, eager + 1, 65'536, 1 << 20, small_options().large_bytes};
  for (const std::size_t size : sizes) {
    SCOPED_TRACE(size);
    ASSERT_NO_FATAL_FAILURE(calls.expect_echo(message(size)));
  }
}

TEST(CallsTest, ARequestLongerThanTheServerTakesIsRefused) {
  Calls calls;
  Outcome outcome;
  const Message request = message(small_options().large_bytes + 1);
  EXPECT_EQ(calls.client.call(echo, request, outcome.handler()), code(errc::message_too_long));
  calls.settle(100);
  EXPECT_FALSE(outcome.done());
  calls.expect_echo(message(8));
}

TEST(CallsTest, AReplyLongerThanTheClientTakesIsAFailureOfTheHandler) {
  Options narrow = small_options();
  narrow.large_bytes = 8192;
  Calls calls{small_options(), narrow};
  calls.server.on(7, [](rpc::Bytes, rpc::Reply& reply) { reply.send(message(8193)); });
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(7, {}, outcome.handler()));
  calls.until("the failure", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::handler_failed));
  calls.expect_echo(message(8192));
}

TEST(CallsTest, AnUnknownMethodIsRejected) {
  Calls calls;
  for (const std::size_t size : {8, 100'000}) {
    Outcome outcome;
    const Message request = message(size);
    ASSERT_FALSE(calls.client.call(404, request, outcome.handler()));
    calls.until("the rejection", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, code(errc::rejected));
  }
  calls.expect_echo(message(8));
}

TEST(CallsTest, AServerWithoutRpcRejects) {
  Connected both;
  rpc::Client client = connected(both, both.listener.port());
  Outcome outcome;
  ASSERT_FALSE(client.call(echo, message(8), outcome.handler()));
  both.until("the rejection", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::rejected));
}

TEST(CallsTest, ManyAtOnceGetTheirOwnAnswers) {
  Dice dice;
  Calls calls;
  std::size_t started = 0;
  std::size_t finished = 0;
  const std::size_t count = rounds(20'000);
  calls.until(
      "many calls",
      [&] {
        while (started < count) {
          const Message request = message(dice.between(0, 600), static_cast<std::uint32_t>(started));
          const auto error = calls.client.call(
              echo, request, [&finished, request](std::error_code failed, rpc::Bytes reply) {
                EXPECT_FALSE(failed);
                expect_equal(reply, request);
                ++finished;
              });
          if (error) {
            EXPECT_TRUE(error == code(errc::overloaded) || error == code(errc::no_credit)) << error.message();
            break;
          }
          ++started;
        }
        EXPECT_EQ(calls.client.in_flight(), started - finished);
        return finished == count;
      },
      4 * patience);
}

TEST(CallsTest, AHandlerMayCallAgainAndKeepTheDepthFull) {
  Calls calls;
  std::size_t finished = 0;
  const std::size_t count = rounds(20'000);
  struct Chain {
    Calls* calls;
    std::size_t* finished;
    std::size_t count;
    void start() const { EXPECT_EQ(calls->client.call(echo, {}, *this), std::error_code{}); }
    void operator()(std::error_code error, rpc::Bytes) const {
      if (*finished >= count) return;  // the rest ends with its client
      EXPECT_FALSE(error);
      ++*finished;
      start();
    }
  };
  for (unsigned i = 0; i < small_options().call_depth; ++i) Chain{&calls, &finished, count}.start();
  calls.until("a chain of calls", [&] { return finished >= count || testing::Test::HasFailure(); });
}

TEST(CallsTest, MoreThanTheDepthIsOverloadedAndPasses) {
  Calls calls;
  std::deque<Outcome> outcomes;
  std::error_code error;
  while (!(error = calls.client.call(echo, {}, outcomes.emplace_back().handler()))) {
  }
  EXPECT_EQ(error, code(errc::overloaded));
  EXPECT_EQ(outcomes.size() - 1, small_options().call_depth);
  EXPECT_EQ(calls.client.in_flight(), small_options().call_depth);
  calls.until("the others", [&] { return outcomes[outcomes.size() - 2].done(); });
  EXPECT_FALSE(outcomes.back().done());
  EXPECT_EQ(calls.client.in_flight(), 0U);
  calls.expect_echo({});
}

TEST(CallsTest, AHandlerMayCallItsCallerBack) {
  Calls calls;
  rpc::Server callers_server{calls.client_loop, address_of(0)};
  callers_server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  std::optional<rpc::Client> back;
  rpc::connect(calls.server_loop, address_of(callers_server.port()),
               [&](const Error* error, rpc::Client made) {
                 ASSERT_EQ(error, nullptr);
                 back.emplace(std::move(made));
               });
  calls.until("a client of the server's", [&] { return back.has_value(); });
  calls.server.on(7, [&](rpc::Bytes request, rpc::Reply& reply) {
    auto answer = [later = std::move(reply)](std::error_code error, rpc::Bytes bytes) mutable {
      EXPECT_FALSE(error);
      later.send(bytes);
    };
    EXPECT_FALSE(back->call(echo, request, std::move(answer)));
  });
  for (const std::size_t size : {8, 3000}) {
    Outcome outcome;
    const Message request = message(size);
    ASSERT_FALSE(calls.client.call(7, request, outcome.handler()));
    calls.until("a nested call", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, std::error_code{});
    expect_equal(outcome.reply, request);
  }
}

TEST(CallsTest, ACaptureThatIsTooBigForItsSlotIsTakenAsWell) {
  Calls calls;
  std::array<char, 200> big{};
  big[199] = 'x';
  char seen = 0;
  ASSERT_FALSE(calls.client.call(echo, {}, [big, &seen](std::error_code, rpc::Bytes) { seen = big[199]; }));
  calls.until("its call", [&] { return seen == 'x'; });
}

TEST(CallsTest, ManyClientsAreServed) {
  Calls calls;
  std::vector<rpc::Client> clients;
  for (unsigned i = 0; i + 1 < small_options().peers; ++i)
    clients.push_back(connected(calls, calls.server.port()));
  calls.until("the last one's arrival", [&] { return calls.server.connections() == small_options().peers; });
  std::deque<Outcome> outcomes;
  for (int round = 0; round < 10; ++round) {
    for (rpc::Client& client : clients)
      ASSERT_FALSE(client.call(echo, {}, outcomes.emplace_back().handler()));
  }
  calls.until("their answers", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (const Outcome& outcome : outcomes) EXPECT_FALSE(outcome.error);
  clients.clear();
  calls.until("their end", [&] { return calls.server.connections() == 1; });
}

}  // namespace
}  // namespace verbena::test
