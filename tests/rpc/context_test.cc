// SPDX-License-Identifier: Apache-2.0
// A loop inside the program's own io_context, beside its timers: it sleeps, and wakes for each call.
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <future>
#include <thread>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Far beyond a wake-up on a busy machine, far below the loop's own look around every 100 ms.
constexpr auto bound = 60ms;

class ContextTest : public testing::Test {
 protected:
  ContextTest() {
    server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
    server.on(keep, [this](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
    rpc::connect(client_loop, address_of(server.port()), [this](const Error* error, rpc::Client made) {
      if (error) ADD_FAILURE() << error->what();
      client = std::move(made);
    });
    run_until("a client", [&] { return client.is_open(); });
  }
  template <class Condition>
  void run_until(const std::string& what, Condition condition, std::chrono::milliseconds limit = patience) {
    const auto end = Clock::now() + limit;
    context.restart();
    while (!condition()) {
      context.run_one_until(end);
      if (Clock::now() > end) throw Impatience("waited in vain for " + what);
    }
  }
  /// Lets the context run until both loops have gone to sleep.
  void pause() {
    const std::uint64_t server_sleeps = server_loop.statistics().sleeps;
    const std::uint64_t client_sleeps = client_loop.statistics().sleeps;
    run_until("sleep", [&] {
      return server_loop.statistics().sleeps > server_sleeps &&
             client_loop.statistics().sleeps > client_sleeps;
    });
  }

  boost::asio::io_context context{1};
  Loop server_loop{context, small_options()};
  Loop client_loop{context, small_options()};
  std::deque<rpc::Reply> kept;
  rpc::Server server{server_loop, address_of(0)};
  rpc::Client client;
};

TEST_F(ContextTest, CallsWorkInsideIt) {
  for (const std::size_t size : {0, 8, 1024, 1025, 300'000}) {
    Outcome outcome;
    const Message request = message(size);
    ASSERT_FALSE(client.call(echo, request, outcome.handler()));
    run_until("an echo", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, std::error_code{});
    expect_equal(outcome.reply, request);
  }
}

TEST_F(ContextTest, ACallAfterAPauseLeavesAtOnce) {
  std::size_t late = 0;
  for (int i = 0; i < 20; ++i) {
    pause();
    Outcome outcome;
    const auto begin = Clock::now();
    ASSERT_FALSE(client.call(echo, message(8), outcome.handler()));
    run_until("an echo", [&] { return outcome.done(); });
    late += Clock::now() - begin > bound;
  }
  EXPECT_LE(late, 1U) << "calls waited for the loop's own look around";
}

TEST_F(ContextTest, ACallOfATimersHandlerLeavesAtOnce) {
  std::size_t late = 0;
  for (int i = 0; i < 20; ++i) {
    Outcome outcome;
    Clock::time_point begin;
    boost::asio::steady_timer timer(context, 10ms);
    timer.async_wait([&](const boost::system::error_code&) {
      begin = Clock::now();
      EXPECT_FALSE(client.call(echo, message(8), outcome.handler()));
    });
    run_until("an echo", [&] { return outcome.done(); });
    late += Clock::now() - begin > bound;
  }
  EXPECT_LE(late, 1U) << "calls waited for the loop's own look around";
}

TEST_F(ContextTest, ADeadlineOfACallAfterAPauseIsKept) {
  for (int i = 0; i < 5; ++i) {
    pause();
    Outcome outcome;
    const auto begin = Clock::now();
    ASSERT_FALSE(client.call(keep, {}, outcome.handler(), 15ms));
    run_until("its deadline", [&] { return outcome.done(); });
    EXPECT_EQ(outcome.error, code(errc::timed_out));
    EXPECT_LT(Clock::now() - begin, 15ms + bound);
  }
}

TEST_F(ContextTest, AReplyAfterAPauseLeavesAtOnce) {
  std::size_t late = 0;
  for (int i = 0; i < 10; ++i) {
    Outcome outcome;
    ASSERT_FALSE(client.call(keep, {}, outcome.handler()));
    run_until("a kept reply", [&] { return kept.size() == 1; });
    pause();
    const auto begin = Clock::now();
    kept.front().send({});
    kept.clear();
    run_until("the reply", [&] { return outcome.done(); });
    late += Clock::now() - begin > bound;
  }
  EXPECT_LE(late, 1U);
}

TEST_F(ContextTest, ALoopThatSleepsUsesNoProcessor) {
  pause();
  const std::uint64_t before = client_loop.statistics().turns;
  const auto end = Clock::now() + 300ms;
  run_until("300 ms", [&] { return Clock::now() > end; });
  EXPECT_LT(client_loop.statistics().turns - before, 1000U)
      << "a loop that polls turns 100,000 times in that time";
}

TEST_F(ContextTest, TheContextOutlivesItsLoops) {
  {
    Loop third{context, small_options()};
    rpc::Client other;
    rpc::connect(third, address_of(server.port()),
                 [&](const Error*, rpc::Client made) { other = std::move(made); });
    run_until("another client", [&] { return other.is_open(); });
  }
  run_until("its end", [&] { return server.connections() == 1; });
  Outcome outcome;
  ASSERT_FALSE(client.call(echo, {}, outcome.handler()));
  run_until("an echo", [&] { return outcome.done(); });
}

// ---- Two threads, each with a loop of its own that sleeps between calls ----

TEST(SleepingTest, NoWakeUpIsLostInThousandsOfPauses) {
  Options options = small_options();
  options.spin = std::chrono::microseconds{1};  // to sleep at once
  std::promise<std::uint16_t> port;
  std::atomic<bool> over{false};
  std::uint64_t server_sleeps = 0;
  std::thread server_thread([&] {
    Loop loop{options};
    rpc::Server server{loop, address_of(0)};
    server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
    port.set_value(server.port());
    loop.run_until([&] { return over.load(); });
    server_sleeps = loop.statistics().sleeps;
  });
  std::size_t late = 0;
  const std::size_t count = rounds(5000);
  {
    Dice dice;
    Loop loop{options};
    rpc::Client client = rpc::connect(loop, address_of(port.get_future().get()));
    for (std::size_t i = 0; i < count && late < 20; ++i) {
      for (std::size_t spin = dice.between(0, 100'000); spin > 0; --spin) asm volatile("");
      bool done = false;
      const auto begin = Clock::now();
      EXPECT_FALSE(client.call(echo, message(8), [&](std::error_code error, rpc::Bytes) {
        EXPECT_FALSE(error);
        done = true;
      }));
      loop.run_until([&] { return done || Clock::now() > begin + patience; });
      EXPECT_TRUE(done) << "call " << i;
      late += Clock::now() - begin > 90ms;
    }
    EXPECT_GT(loop.statistics().sleeps, count / 10);  // or this shows nothing
  }
  over = true;
  server_thread.join();
  EXPECT_LT(late, 5U) << "wake-ups were lost; the loop's own look around every 100 ms found the message";
  EXPECT_GT(server_sleeps, count / 10);
}

}  // namespace
}  // namespace verbena::test
