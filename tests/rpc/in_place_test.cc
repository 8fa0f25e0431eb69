// SPDX-License-Identifier: Apache-2.0
// A caller names the place of its reply: it lands there, and nothing else ever does.
#include <algorithm>
#include <chrono>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
constexpr auto untouched = std::byte{0x5a};

TEST(InPlaceTest, RepliesOfEverySizeLandWhereTheyWereWanted) {
  Calls calls;
  const std::size_t eager = small_options().eager_size;
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, eager, eager + 1, std::size_t{300'000}}) {
    SCOPED_TRACE(size);
    const Message request = message(size);
    Message place(size + 16, untouched);
    Outcome outcome;
    const std::byte* at = nullptr;
    ASSERT_FALSE(calls.client.call(echo, request,
                                   [&, handler = outcome.handler()](std::error_code error, rpc::Bytes reply) {
                                     at = reply.data();
                                     handler(error, reply);
                                   },
                                   {.reply_into = place}));
    calls.until("the reply", [&] { return outcome.done(); });
    ASSERT_EQ(outcome.error, std::error_code{});
    expect_equal(outcome.reply, request);
    EXPECT_EQ(at, place.data());
    EXPECT_TRUE(std::all_of(place.begin() + static_cast<std::ptrdiff_t>(size), place.end(),
                            [](std::byte byte) { return byte == untouched; }));
  }
}

TEST(InPlaceTest, AReplyThatIsLongerThanItsPlaceIsRefusedAndTouchesNothing) {
  Calls calls;
  for (const std::size_t size : {100, 50'000}) {
    SCOPED_TRACE(size);
    Message place(size - 1, untouched);
    Outcome outcome;
    const Message request = message(size);
    ASSERT_FALSE(calls.client.call(echo, request, outcome.handler(), {.reply_into = place}));
    calls.until("the refusal", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, code(errc::message_too_long));
    calls.expect_echo(message(size));
    EXPECT_TRUE(std::ranges::all_of(place, [](std::byte byte) { return byte == untouched; }));
    EXPECT_EQ(outcome.times, 1);
  }
}

TEST(InPlaceTest, ManyAtOnceKeepApart) {
  Dice dice;
  Calls calls;
  std::deque<Outcome> outcomes(small_options().large_depth);
  std::deque<Message> requests, places;
  for (std::size_t round = 0; round < rounds(50); ++round) {
    requests.clear();
    places.clear();
    for (Outcome& outcome : outcomes) {
      outcome = {};
      requests.push_back(message(dice.between(0, 100'000), static_cast<std::uint32_t>(round)));
      places.emplace_back(requests.back().size(), untouched);
      std::error_code error;
      calls.until("room", [&] {
        error = calls.client.call(echo, requests.back(), outcome.handler(), {.reply_into = places.back()});
        return error != code(errc::overloaded) && error != code(errc::no_credit);
      });
      ASSERT_FALSE(error);
    }
    calls.until("all replies", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
    for (std::size_t i = 0; i < places.size(); ++i) ASSERT_EQ(places[i], requests[i]);
  }
}

TEST(InPlaceTest, AfterItsDeadlineNothingTouchesThePlace) {
  Calls calls;
  for (const std::size_t size : {100, 200'000}) {
    SCOPED_TRACE(size);
    Message place(size, untouched);
    Outcome outcome;
    ASSERT_FALSE(calls.client.call(keep, {}, outcome.handler(), {.deadline = 5ms, .reply_into = place}));
    calls.until("the deadline", [&] { return outcome.done() && !calls.kept.empty(); });
    EXPECT_EQ(outcome.error, code(errc::timed_out));
    const std::uint64_t late = calls.client_loop.statistics().late_replies;
    calls.kept.front().send(message(size));
    calls.kept.clear();
    calls.until("the late reply", [&] { return calls.client_loop.statistics().late_replies == late + 1; });
    calls.expect_echo(message(8));
    EXPECT_TRUE(std::ranges::all_of(place, [](std::byte byte) { return byte == untouched; }));
    EXPECT_EQ(outcome.times, 1);
  }
  EXPECT_EQ(calls.client_loop.statistics().large_messages_read, 0U) << "nobody waits for a late reply";
}

TEST(InPlaceTest, AClosedClientLeavesThePlaceAlone) {
  for (int turns = 0; turns < 40; ++turns) {  // close at every stage of a large reply's way
    SCOPED_TRACE(turns);
    Calls calls;
    Message place(100'000, untouched);
    const Message request = message(100'000);
    Outcome outcome;
    ASSERT_FALSE(calls.client.call(echo, request, outcome.handler(), {.reply_into = place}));
    for (int i = 0; i < turns && !outcome.done(); ++i) calls.turn();
    calls.client.close();
    ASSERT_EQ(outcome.times, 1);
    if (!outcome.error) continue;
    std::ranges::fill(place, untouched);
    calls.until("the end", [&] { return calls.server.connections() == 0; });
    EXPECT_TRUE(std::ranges::all_of(place, [](std::byte byte) { return byte == untouched; }));
  }
}

}  // namespace
}  // namespace verbena::test
