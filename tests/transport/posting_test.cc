// SPDX-License-Identifier: Apache-2.0
// Functions that other threads post to a loop: it runs them in its own, in order, also out of its sleep.
#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>

#include "transport/loops.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Far beyond a wake-up on a busy machine, below the loop's own look around every 100 ms.
constexpr auto bound = 60ms;

Options sleepy_options() {
  Options options = small_options();
  options.spin = 1us;
  return options;
}

TEST(PostingTest, AFunctionRunsInTheLoopsThreadAndNotInsidePost) {
  Loop loop{small_options()};
  std::thread::id ran;
  std::thread poster([&] { loop.post([&] { ran = std::this_thread::get_id(); }); });
  poster.join();
  EXPECT_EQ(ran, std::thread::id{});
  wait_until("the function", [&] {
    loop.poll();
    return ran != std::thread::id{};
  });
  EXPECT_EQ(ran, std::this_thread::get_id());
}

TEST(PostingTest, AFunctionMayOwnWhatCantBeCopied) {
  Loop loop{small_options()};
  int result = 0;
  loop.post([&, number = std::make_unique<int>(7)] { result = *number; });
  loop.run_until([&] { return result != 0; });
  EXPECT_EQ(result, 7);
}

TEST(PostingTest, WhatAFunctionPostsRunsInALaterTurn) {
  Loop loop{small_options()};
  int depth = 0;
  loop.post([&] {
    ++depth;
    loop.post([&] { ++depth; });
  });
  EXPECT_EQ(loop.poll(), 1U);
  EXPECT_EQ(depth, 1);
  EXPECT_EQ(loop.poll(), 1U);
  EXPECT_EQ(depth, 2);
}

TEST(PostingTest, EachThreadsFunctionsRunInItsOrder) {
  constexpr std::size_t threads = 2;
  constexpr std::uint64_t each = 200'000;
  Loop loop{sleepy_options()};
  std::array<std::uint64_t, threads> next{};
  std::uint64_t disorder = 0;
  std::vector<std::thread> posters;
  for (std::size_t thread = 0; thread < threads; ++thread) {
    posters.emplace_back([&, thread, poster = loop.poster()] {
      for (std::uint64_t i = 0; i < each; ++i) {
        poster.post([&, thread, i] { disorder += next[thread]++ != i; });
        if (i % 10'000 == 0) std::this_thread::yield();  // the loop may fall asleep meanwhile
      }
    });
  }
  loop.run_until([&] { return next[0] == each && next[1] == each; });
  for (std::thread& poster : posters) poster.join();
  EXPECT_EQ(disorder, 0U);
}

TEST(PostingTest, ASleepingLoopWakesAtOnce) {
  Loop loop{sleepy_options()};
  std::atomic<int> ran{0};
  std::atomic<bool> over{false};
  std::size_t late = 0;
  std::thread poster([&] {
    for (int i = 0; i < 30; ++i) {
      std::this_thread::sleep_for(3ms);  // let it fall asleep
      const auto begin = Clock::now();
      loop.post([&] { ++ran; });
      wait_until("the function", [&] { return ran == i + 1; });
      late += Clock::now() - begin > bound;
    }
    loop.post([&] { over = true; });
  });
  loop.run_until([&] { return over.load(); });
  poster.join();
  EXPECT_GT(loop.statistics().sleeps, 0U);
  EXPECT_LE(late, 1U) << "posts waited for the loop's own look around";
}

TEST(PostingTest, NoWakeUpIsLostInThousandsOfPosts) {
  Loop loop{sleepy_options()};
  std::atomic<std::uint64_t> ran{0};
  const std::uint64_t count = rounds(5000);
  std::size_t late = 0;
  std::thread poster([&] {
    Dice dice;
    for (std::uint64_t i = 0; i < count && late < 20; ++i) {
      for (std::size_t spin = dice.between(0, 50'000); spin > 0; --spin) asm volatile("");
      const auto begin = Clock::now();
      loop.post([&] { ++ran; });
      wait_until("the function", [&] { return ran == i + 1; });
      late += Clock::now() - begin > 90ms;
    }
    loop.post([&] { loop.stop(); });
  });
  loop.run();
  poster.join();
  EXPECT_LT(late, 5U) << "wake-ups were lost; the loop's own look around every 100 ms found the post";
}

TEST(PostingTest, ALoopInAGivenContextWakesAtOnceToo) {
  boost::asio::io_context context{1};
  Loop loop{context, sleepy_options()};
  std::atomic<int> ran{0};
  std::size_t late = 0;
  std::thread poster([&] {
    for (int i = 0; i < 30; ++i) {
      std::this_thread::sleep_for(3ms);
      const auto begin = Clock::now();
      loop.post([&] { ++ran; });
      wait_until("the function", [&] { return ran == i + 1; });
      late += Clock::now() - begin > bound;
    }
    loop.post([&] { context.stop(); });
  });
  context.run();
  poster.join();
  EXPECT_GT(loop.statistics().sleeps, 0U);
  EXPECT_LE(late, 1U) << "posts waited for the loop's own look around";
}

TEST(PostingTest, AHandlerOfTheSameContextMayPostToASleepingLoop) {
  boost::asio::io_context context{1};
  Loop loop{context, sleepy_options()};
  std::size_t late = 0;
  for (int i = 0; i < 10; ++i) {
    bool ran = false;
    Clock::time_point begin;
    boost::asio::steady_timer timer(context, 5ms);
    timer.async_wait([&](const boost::system::error_code&) {
      begin = Clock::now();
      loop.post([&] { ran = true; });
    });
    wait_until("the function", [&] {
      context.restart();
      context.run_one_for(1s);
      return ran;
    });
    late += Clock::now() - begin > bound;
  }
  EXPECT_LE(late, 1U);
}

TEST(PostingTest, WhatIsNotRunWhenTheLoopEndsIsDestroyedUnrun) {
  const auto life = std::make_shared<int>();
  bool ran = false;
  {
    Loop loop{small_options()};
    for (int i = 0; i < 3; ++i) loop.post([&ran, life] { ran = true; });
    EXPECT_EQ(life.use_count(), 4);
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(life.use_count(), 1);
}

TEST(PostingTest, APosterMayOutliveItsLoopAndSaysSo) {
  const auto life = std::make_shared<int>();
  Poster poster;
  EXPECT_FALSE(poster.post([] {}));
  {
    Loop loop{small_options()};
    poster = loop.poster();
    EXPECT_TRUE(poster.post([life] {}));
  }
  EXPECT_FALSE(poster.post([life] {}));
  EXPECT_EQ(life.use_count(), 1);
}

TEST(PostingTest, ALoopMayEndWhileOthersPost) {
  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> gone{0};
  struct Token {
    explicit Token(std::atomic<std::uint64_t>& count) : destroyed(&count) {}
    Token(Token&& other) noexcept : destroyed(std::exchange(other.destroyed, nullptr)) {}
    Token& operator=(Token&&) = delete;
    ~Token() {
      if (destroyed) ++*destroyed;
    }
    std::atomic<std::uint64_t>* destroyed;
  };
  for (int round = 0; round < 10; ++round) {
    std::optional<Loop> loop{std::in_place, small_options()};
    std::atomic<int> begun{0};
    std::vector<std::thread> posters;
    for (int i = 0; i < 2; ++i) {
      posters.emplace_back([&, poster = loop->poster()] {
        bool accepted = true;
        while (accepted) {
          ++made;
          accepted = poster.post([token = Token(gone)] {});
          if (begun < 2) ++begun;
        }
      });
    }
    loop->run_until([&] { return begun >= 2; });
    loop.reset();
    for (std::thread& poster : posters) poster.join();
  }
  EXPECT_EQ(made, gone);
}

}  // namespace
}  // namespace verbena::test
