// SPDX-License-Identifier: Apache-2.0
// A peer whose device doesn't answer any more is found, though nobody sends anything.
#include <signal.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <optional>

#include "support/child.h"
#include "transport/rude_peer.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

Options probing_every(std::chrono::milliseconds interval) {
  Options options = small_options();
  options.keep_alive = interval;
  return options;
}

TEST(KeepAliveTest, AQuietConnectionIsProbedAgainAndAgain) {
  Connected both{probing_every(10ms), probing_every(10ms)};
  for (Loop* loop : {&both.client_loop, &both.server_loop}) {
    both.until("probes of its own", [&] { return loop->statistics().keep_alives_sent >= 5; });
  }
  EXPECT_TRUE(both.client.is_open());
  EXPECT_TRUE(both.server.is_open());
  EXPECT_EQ(both.client_loop.statistics().messages_received, 0U) << "the peer's program has no part in it";
}

TEST(KeepAliveTest, ABusyOneIsNot) {
  Connected both{probing_every(20ms), probing_every(20ms)};
  Inbox inbox{both.server};
  const auto end = Clock::now() + 300ms;
  const std::uint64_t before =
      both.client_loop.statistics().keep_alives_sent + both.server_loop.statistics().keep_alives_sent;
  while (Clock::now() < end) {
    both.send_when_it_may(message(8));
    both.turn();
  }
  EXPECT_EQ(both.client_loop.statistics().keep_alives_sent + both.server_loop.statistics().keep_alives_sent,
            before);
}

TEST(KeepAliveTest, ThereAreNoneWhereItIsOff) {
  Connected both{probing_every(0ms), probing_every(0ms)};
  const auto end = Clock::now() + 200ms;
  both.until("some time", [&] { return Clock::now() > end; });
  EXPECT_EQ(both.client_loop.statistics().keep_alives_sent, 0U);
}

TEST(KeepAliveTest, ThereAreNoneAfterClose) {
  Connected both{probing_every(0ms), probing_every(10ms)};
  Ending ending{both.server};
  both.until("a probe", [&] { return both.client_loop.statistics().keep_alives_sent > 0; });
  both.client.close();
  const std::uint64_t before = both.client_loop.statistics().keep_alives_sent;
  both.until("the end", [&] { return ending.times > 0; });
  const auto end = Clock::now() + 100ms;
  both.until("some time", [&] { return Clock::now() > end; });
  EXPECT_EQ(both.client_loop.statistics().keep_alives_sent, before);
}

TEST(KeepAliveTest, ItsProbesTakeNobodysPlace) {
  Connected both{probing_every(1ms), probing_every(1ms)};
  Inbox inbox{both.server};
  const Region near = both.client_loop.memory().allocate(64);
  const Region far = both.server_loop.memory().allocate(64);
  for (std::size_t round = 0; round < rounds(50); ++round) {
    const std::uint64_t before = both.client_loop.statistics().keep_alives_sent;
    both.until("a probe", [&] { return both.client_loop.statistics().keep_alives_sent > before; });
    inbox.messages.clear();
    std::deque<Noted> puts(small_options().send_depth);
    for (Noted& put : puts) ASSERT_FALSE(both.client.put(near.slice(), far.remote(), 0, put));
    for (std::uint32_t i = 0; i < small_options().request_depth; ++i)
      ASSERT_EQ(both.client.send(message(8, i)), std::error_code{});
    both.until("all of it",
               [&] { return puts.back().done() && inbox.messages.size() == small_options().request_depth; });
  }
}

/// A listener, and a peer whose program does nothing.
class SilenceTest : public testing::Test {
 protected:
  void meet(std::chrono::milliseconds keep_alive) {
    loops.emplace(probing_every(keep_alive), small_options());
    listener = listen(loops->server_loop, address_of(0), [this](Connection made) {
      connection = std::move(made);
      connection.on_closed([this](std::error_code error, std::string_view text) {
        ended = error;
        why = text;
      });
    });
    peer.emplace(*loops, listener.port());
    loops->until("the peer", [this] { return connection.is_open(); });
  }

  void expect_lost() const {
    ASSERT_TRUE(ended);
    // soft0 fails a queue pair with its peer's: the probe may find it failed already, and is flushed.
    const bool flushed = on_soft0() && ended == code(errc::connection_lost);
    EXPECT_TRUE(flushed || ended == code(errc::retry_exceeded)) << ended->message();
    EXPECT_NE(why, "");
  }

  std::optional<Loops> loops;
  Listener listener;
  Connection connection;
  std::optional<RudePeer> peer;
  std::optional<std::error_code> ended;
  std::string why;
};

TEST_F(SilenceTest, ADeviceThatAnswersKeepsItsConnection) {
  meet(10ms);
  loops->until("probes", [this] { return loops->server_loop.statistics().keep_alives_sent >= 10; });
  EXPECT_FALSE(ended);
}

TEST_F(SilenceTest, ADeviceThatDoesNotLosesItWithinTheBound) {
  constexpr auto keep_alive = 50ms;
  meet(keep_alive);
  loops->until("a probe", [this] { return loops->server_loop.statistics().keep_alives_sent >= 1; });
  peer->fall_silent();
  const auto begin = Clock::now();
  loops->until("the end, though the socket stays open", [this] { return ended.has_value(); });
  expect_lost();
  const Options options = small_options();
  const std::chrono::nanoseconds retries{4 * (options.retries + 1) *
                                         (std::int64_t{4096} << options.ack_timeout_exponent)};
  constexpr auto busy_machine = 500ms;
  EXPECT_LT(Clock::now() - begin, 2 * keep_alive + retries + busy_machine);
}

TEST_F(SilenceTest, ASleepingLoopFindsItToo) {
  meet(50ms);
  peer->fall_silent();
  const auto end = Clock::now() + patience;
  loops->server_loop.run_until([&] { return ended || Clock::now() > end; });
  expect_lost();
  EXPECT_GT(loops->server_loop.statistics().sleeps, 0U);
}

TEST_F(SilenceTest, WithoutKeepAliveNobodyHearsOfIt) {
  meet(0ms);
  peer->fall_silent();
  const auto end = Clock::now() + 300ms;
  loops->until("some time", [&] { return Clock::now() > end; });
  EXPECT_FALSE(ended) << "or the tests above show nothing";
}

TEST(KeepAliveInAContextTest, ItWakesTheSleepingLoop) {
  boost::asio::io_context context{1};
  Loop server{context, probing_every(20ms)};
  Loop client{context, probing_every(20ms)};
  Connection here;
  Connection there;
  const Listener listener = listen(server, address_of(0), [&](Connection made) { there = std::move(made); });
  connect(client, address_of(listener.port()), [&](const Error* error, Connection made) {
    if (error) ADD_FAILURE() << error->what();
    here = std::move(made);
  });
  const auto end = Clock::now() + patience;
  while (client.statistics().keep_alives_sent < 5 && Clock::now() < end) context.run_one_until(end);
  EXPECT_GE(client.statistics().keep_alives_sent, 5U);
  EXPECT_GT(client.statistics().sleeps, 0U);
  EXPECT_TRUE(here.is_open());
}

/// Says back what it hears.
const Role echoing{"echoing peer", [](Line& parent) {
                     Loop loop{small_options()};
                     Connection peer;
                     const Listener listener = listen(loop, address_of(0), [&](Connection made) {
                       peer = std::move(made);
                       peer.on_message([&](std::span<const std::byte> bytes) { (void)peer.send(bytes); });
                     });
                     parent.put(listener.port());
                     loop.run();
                   }};

TEST(KeepAliveTest, AProgramThatIsStoppedKeepsItsConnection) {
  Child child{"echoing peer"};
  Loop loop{probing_every(20ms)};
  Connection connection = connect(loop, address_of(child.line().get<std::uint16_t>()));
  Inbox inbox{connection};
  const auto expect_echo = [&] {
    inbox.messages.clear();
    ASSERT_FALSE(connection.send(message(100)));
    wait_until("an echo", [&] { return loop.poll() > 0 && !inbox.messages.empty(); });
    expect_equal(inbox.messages[0], message(100));
  };
  expect_echo();
  child.signal(SIGSTOP);
  const std::uint64_t before = loop.statistics().keep_alives_sent;
  wait_until("answered probes", [&] {
    loop.poll();
    return loop.statistics().keep_alives_sent >= before + 5;
  });
  EXPECT_TRUE(connection.is_open());
  child.signal(SIGCONT);
  expect_echo();
}

}  // namespace
}  // namespace verbena::test
