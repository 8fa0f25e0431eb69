// SPDX-License-Identifier: Apache-2.0
// Replies of many parts: all of them, in order, and no faster than their caller takes them.
#include <verbena/async_stream.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <chrono>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

constexpr rpc::MethodId count = 20;

/// Writes messages of random sizes until there are `parts`, then answers with how many.
struct Source {
  Source(rpc::Reply&& reply, std::uint32_t how_many) : stream(std::move(reply)), parts(how_many) {}
  void go() {
    while (written < parts) {
      last = stream.write(message(written % 300, written));
      if (last == code(errc::no_credit) || last == code(errc::overloaded))
        return stream.on_writable([this] { go(); });
      if (last) return;
      ++written;
    }
    stream.finish(std::as_bytes(std::span(&written, 1)));
  }
  rpc::ReplyStream stream;
  std::uint32_t parts;
  std::uint32_t written = 0;
  std::error_code last;
};

struct Streams : Calls {
  explicit Streams(const Options& options = small_options()) : Calls(options, options) {
    server.on(count, [this](rpc::Bytes request, rpc::Reply& reply) {
      std::uint32_t parts = 0;
      std::memcpy(&parts, request.data(), sizeof parts);
      sources.emplace_back(std::move(reply), parts);
      sources.back().go();
    });
  }
  std::error_code start(std::uint32_t parts, Outcome& outcome, const rpc::StreamOptions& options = {}) {
    return client.stream(
        count, std::as_bytes(std::span(&parts, 1)),
        [this](rpc::Bytes part) { received.emplace_back(part.begin(), part.end()); }, outcome.handler(),
        options);
  }
  void expect_all(std::uint32_t parts) {
    ASSERT_EQ(received.size(), parts);
    for (std::uint32_t i = 0; i < parts; ++i)
      ASSERT_NO_FATAL_FAILURE(expect_equal(received[i], message(i % 300, i)));
  }
  std::deque<Source> sources;
  std::vector<Message> received;
};

class StreamWindowsTest : public testing::TestWithParam<std::uint32_t> {};

TEST_P(StreamWindowsTest, AllPartsArriveInOrderAndThenTheReply) {
  for (const std::uint32_t parts : {0U, 1U, 7U, 500U}) {
    SCOPED_TRACE(parts);
    Streams streams;
    Outcome outcome;
    ASSERT_FALSE(streams.start(parts, outcome, {.window = GetParam()}));
    streams.until("the end", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, std::error_code{});
    EXPECT_EQ(outcome.times, 1);
    ASSERT_NO_FATAL_FAILURE(streams.expect_all(parts));
    expect_equal(outcome.reply, std::as_bytes(std::span(&parts, 1)));
    ASSERT_NO_FATAL_FAILURE(streams.expect_echo(message(100)));
  }
}

TEST_P(StreamWindowsTest, TheServerIsNeverFurtherAheadThanTheWindow) {
  Streams streams;
  Outcome outcome;
  rpc::Ticket ticket;
  ASSERT_FALSE(streams.start(300, outcome, {.window = GetParam(), .manual = true, .ticket = &ticket}));
  std::uint32_t taken = 0;
  while (!outcome.done()) {
    streams.until("what the window lets through", [&] {
      return outcome.done() || streams.received.size() == std::min(300U, taken + GetParam());
    });
    ASSERT_LE(streams.received.size(), taken + GetParam());
    const auto news = static_cast<std::uint32_t>(streams.received.size()) - taken;
    streams.client.consumed(ticket, news);
    taken += news;
  }
  EXPECT_EQ(outcome.error, std::error_code{});
  streams.expect_all(300);
}
INSTANTIATE_TEST_SUITE_P(Windows, StreamWindowsTest, testing::Values(1U, 2U, 3U, 16U, 1000U));

TEST(StreamsTest, AStalledStreamStallsNobodyElse) {
  Streams streams;
  Outcome outcome;
  ASSERT_FALSE(streams.start(1000, outcome, {.window = 4, .manual = true}));
  streams.until("the stall", [&] { return streams.received.size() == 4; });
  for (std::uint32_t i = 0; i < 100; ++i) ASSERT_NO_FATAL_FAILURE(streams.expect_echo(message(50, i)));
  Outcome other;
  streams.received.clear();
  ASSERT_FALSE(streams.start(100, other));
  streams.until("another stream", [&] { return other.done(); });
  EXPECT_EQ(streams.received.size(), 100U);
  EXPECT_FALSE(outcome.done());
}

TEST(StreamsTest, ManyAtOnceKeepApart) {
  Options options = small_options();
  Streams streams{options};
  std::deque<Outcome> outcomes(options.call_depth / 2);
  std::deque<std::vector<Message>> received(outcomes.size());
  const std::uint32_t parts = 60;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    streams.until("room", [&] {
      return !streams.client.stream(
          count, std::as_bytes(std::span(&parts, 1)),
          [&received, i](rpc::Bytes part) { received[i].emplace_back(part.begin(), part.end()); },
          outcomes[i].handler(), {.window = static_cast<std::uint32_t>(1 + i)});
    });
  }
  streams.until("all of them", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (const auto& each : received) {
    streams.received = each;
    ASSERT_NO_FATAL_FAILURE(streams.expect_all(parts));
  }
}

TEST(StreamsTest, OneThatIsCancelledTellsItsServer) {
  Streams streams;
  Outcome outcome;
  rpc::Ticket ticket;
  ASSERT_FALSE(streams.start(100'000, outcome, {.window = 4, .manual = true, .ticket = &ticket}));
  streams.until("some parts", [&] { return streams.received.size() == 4; });
  streams.client.cancel(ticket);
  streams.until("the end on both sides",
                [&] { return outcome.done() && streams.sources.front().last == code(errc::cancelled); });
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  EXPECT_EQ(streams.received.size(), 4U);
  streams.sources.clear();  // its answer frees the call's place
  streams.until("the late reply", [&] { return streams.client_loop.statistics().late_replies == 1; });
}

TEST(StreamsTest, ADeadlineEndsItAsWell) {
  Streams streams;
  Outcome outcome;
  ASSERT_FALSE(streams.start(100'000, outcome, {.deadline = 20ms, .window = 4, .manual = true}));
  streams.until("the end on both sides", [&] {
    return outcome.done() && !streams.sources.empty() &&
           streams.sources.front().last == code(errc::cancelled);
  });
  EXPECT_EQ(outcome.error, code(errc::timed_out));
  EXPECT_EQ(outcome.times, 1);
}

TEST(StreamsTest, TheServerHearsThatItsCallerHasGone) {
  Streams streams;
  Outcome outcome;
  ASSERT_FALSE(streams.start(100'000, outcome, {.window = 4, .manual = true}));
  streams.until("some parts", [&] { return streams.received.size() == 4; });
  streams.client.close();
  EXPECT_EQ(outcome.error, code(errc::cancelled));
  streams.until("the server's word",
                [&] { return streams.sources.front().last == code(errc::connection_lost); });
}

TEST(StreamsTest, AnUnfinishedOneIsAFailureOfTheHandler) {
  Streams streams;
  Outcome outcome;
  ASSERT_FALSE(streams.start(100, outcome, {.window = 4, .manual = true}));
  streams.until("some parts", [&] { return streams.received.size() == 4; });
  streams.sources.clear();
  streams.until("the end", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::handler_failed));
}

TEST(StreamsTest, APlainCallOfAStreamingMethodAndAStreamOfAPlainOne) {
  Streams streams;
  Outcome plain;
  const std::uint32_t parts = 3;
  ASSERT_FALSE(streams.client.call(count, std::as_bytes(std::span(&parts, 1)), plain.handler()));
  streams.until("the server's end", [&] { return !streams.sources.empty(); });
  EXPECT_EQ(streams.sources.front().last, code(errc::rejected));
  streams.sources.clear();
  streams.until("the failure", [&] { return plain.done(); });
  EXPECT_EQ(plain.error, code(errc::handler_failed));

  Outcome stream;
  ASSERT_FALSE(streams.client.stream(
      echo, message(40), [](rpc::Bytes) { FAIL(); }, stream.handler()));
  streams.until("the reply", [&] { return stream.done(); });
  expect_equal(stream.reply, message(40));
}

TEST(StreamsTest, AWindowOutOfRangeIsRefused) {
  Streams streams;
  Outcome outcome;
  EXPECT_EQ(streams.start(1, outcome, {.window = 0}), code(errc::invalid_argument));
  EXPECT_EQ(streams.start(1, outcome, {.window = 65'537}), code(errc::invalid_argument));
  streams.expect_echo(message(8));
  EXPECT_EQ(outcome.times, 0);
}

TEST(StreamsTest, APartsHandlerMayDestroyItsClient) {
  Streams streams;
  Outcome outcome;
  const std::uint32_t parts = 10;
  int met = 0;
  ASSERT_FALSE(streams.client.stream(
      count, std::as_bytes(std::span(&parts, 1)),
      [&](rpc::Bytes) {
        ++met;
        streams.client = rpc::Client{};
      },
      outcome.handler()));
  streams.until("the end", [&] { return outcome.done(); });
  EXPECT_EQ(met, 1);
  EXPECT_EQ(outcome.error, code(errc::cancelled));
}

asio::awaitable<void> produce(Loop& loop, rpc::Reply reply, std::uint32_t parts) {
  rpc::ReplyStream stream{std::move(reply)};
  for (std::uint32_t i = 0; i < parts; ++i)
    co_await rpc::async_write(loop, stream, message(i % 300, i), asio::use_awaitable);
  stream.finish();
}

asio::awaitable<void> consume(rpc::Client& client, std::vector<Message>& received, bool& done) {
  rpc::StreamReader parts{client, 21, {}, {.window = 5}};
  while (auto part = co_await parts.next(asio::use_awaitable)) received.push_back(std::move(*part));
  done = true;
}

TEST(StreamsTest, CoroutinesAtBothEnds) {
  Streams streams;
  streams.server.on(21, [&](rpc::Bytes, rpc::Reply& reply) {
    asio::co_spawn(streams.server_loop.context(), produce(streams.server_loop, std::move(reply), 400),
                   asio::detached);
  });
  bool done = false;
  asio::co_spawn(streams.client_loop.context(), consume(streams.client, streams.received, done),
                 asio::detached);
  streams.until("the end", [&] {
    Streams::look(streams.server_loop);
    Streams::look(streams.client_loop);
    return done;
  });
  streams.expect_all(400);
}

TEST(StreamsTest, AReaderThatGoesCancelsItsCall) {
  Streams streams;
  const std::uint32_t parts = 100'000;
  {
    const rpc::StreamReader reader{streams.client, count, std::as_bytes(std::span(&parts, 1)), {.window = 5}};
    streams.until("the stall",
                  [&] { return !streams.sources.empty() && streams.sources.front().written == 5; });
  }
  streams.until("the server's word", [&] { return streams.sources.front().last == code(errc::cancelled); });
  EXPECT_EQ(streams.client.in_flight(), 0U);
}

}  // namespace
}  // namespace verbena::test
