// SPDX-License-Identifier: Apache-2.0
// Handlers on other threads, and handlers that are coroutines.
#include "verbena/handlers.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "rpc/calls.h"
#include "verbena/asio.h"

namespace verbena::test {
namespace {

using boost::asio::awaitable;
using boost::asio::thread_pool;
using boost::asio::use_awaitable;
using namespace std::chrono_literals;

struct Sum {
  static constexpr rpc::MethodId id = 21;
  using Request = std::span<const double>;
  using Result = double;
};
struct Greet {
  static constexpr rpc::MethodId id = 22;
  using Request = std::string_view;
  using Result = std::string;
};
struct Beat {
  static constexpr rpc::MethodId id = 23;
  using Request = void;
  using Result = void;
};

/// A door that functions of other threads wait at.
class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  std::size_t waiting() {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t waiting_ = 0;
  bool open_ = false;
};

class HandlersTest : public testing::Test {
 protected:
  template <class Method, class Request>
  void expect_error(const Request& request, errc wanted) {
    std::optional<std::error_code> got;
    ASSERT_FALSE(calls.client.call<Method>(request, [&](std::error_code error, auto) { got = error; }));
    calls.until("an error", [&] { return got.has_value(); });
    EXPECT_EQ(*got, code(wanted));
  }
  void expect_sums(std::size_t count) {
    std::vector<double> xs(count);
    std::iota(xs.begin(), xs.end(), 1.0);
    std::optional<double> sum;
    ASSERT_FALSE(calls.client.call<Sum>(xs, [&](std::error_code, auto result) { sum = result; }));
    calls.until("a sum", [&] { return sum.has_value(); });
    EXPECT_EQ(*sum, static_cast<double>(count) * static_cast<double>(count + 1) / 2);
  }

  Calls calls;
};

double sum_of(std::span<const double> xs) {
  return std::accumulate(xs.begin(), xs.end(), 0.0);
}

// ---- Functions on executors ----

TEST_F(HandlersTest, AFunctionRunsOnTheExecutorAndTheLoopAnswers) {
  thread_pool pool(2);
  std::atomic<bool> here{false};
  rpc::on<Sum>(calls.server, pool.get_executor(),
               [&, loops_thread = std::this_thread::get_id()](std::span<const double> xs) {
                 if (std::this_thread::get_id() == loops_thread) here = true;
                 return sum_of(xs);
               });
  for (const std::size_t count : {0, 1, 100, 1000, 50'000}) ASSERT_NO_FATAL_FAILURE(expect_sums(count));
  EXPECT_FALSE(here);
}

TEST_F(HandlersTest, BytesWithoutATypeWorkToo) {
  thread_pool pool(1);
  rpc::on(calls.server, 30, pool.get_executor(),
          [](rpc::Bytes bytes) { return Message(bytes.rbegin(), bytes.rend()); });
  for (const std::size_t size : {0, 10, 900, 100'000}) {
    Message request = message(size);
    Outcome outcome;
    ASSERT_FALSE(calls.client.call(30, request, outcome.handler()));
    calls.until("an answer", [&] { return outcome.done(); });
    std::ranges::reverse(request);
    expect_equal(outcome.reply, request);
  }
}

TEST_F(HandlersTest, NothingIsAMessageToo) {
  thread_pool pool(1);
  std::atomic<int> beats{0};
  rpc::on<Beat>(calls.server, pool.get_executor(), [&] { ++beats; });
  bool done = false;
  ASSERT_FALSE(calls.client.call<Beat>([&](std::error_code error) { done = !error; }));
  calls.until("the end of a beat", [&] { return done; });
  EXPECT_EQ(beats, 1);
}

TEST_F(HandlersTest, TheLoopServesOthersWhileFunctionsRun) {
  thread_pool pool(1);
  Gate gate;
  rpc::on<Sum>(calls.server, pool.get_executor(), [&](std::span<const double> xs) {
    gate.wait();
    return sum_of(xs);
  });
  std::optional<double> sum;
  ASSERT_FALSE(calls.client.call<Sum>(std::vector{1.0, 2.0}, [&](std::error_code, auto got) { sum = got; }));
  calls.until("the function", [&] { return gate.waiting() == 1; });
  for (std::uint32_t i = 0; i < 100; ++i) calls.expect_echo(message(500, i));
  EXPECT_FALSE(sum);
  gate.open();
  calls.until("its sum", [&] { return sum.has_value(); });
  EXPECT_EQ(*sum, 3.0);  // of a request that stayed where it was
}

TEST_F(HandlersTest, AWrongRequestIsRejectedAndAnExceptionIsAFailure) {
  thread_pool pool(1);
  rpc::on<Sum>(calls.server, pool.get_executor(), &sum_of);
  rpc::on<Greet>(calls.server, pool.get_executor(), [](std::string_view name) -> std::string {
    if (name == "busy") throw std::system_error(make_error_code(errc::overloaded));
    throw std::runtime_error("no");
  });
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(Sum::id, message(7), outcome.handler()));
  calls.until("a rejection", [&] { return outcome.done(); });
  EXPECT_EQ(outcome.error, code(errc::rejected));
  expect_error<Greet>(std::string_view("Ada"), errc::handler_failed);
  expect_error<Greet>(std::string_view("busy"), errc::overloaded);
}

TEST_F(HandlersTest, OneMoreThanTheMostIsOverload) {
  thread_pool pool(1);
  Gate gate;
  rpc::on<Sum>(
      calls.server, pool.get_executor(),
      [&](std::span<const double> xs) {
        gate.wait();
        return sum_of(xs);
      },
      3);
  std::vector<std::error_code> ends;
  const std::vector<double> xs{1.0};
  for (int i = 0; i < 5; ++i)
    ASSERT_FALSE(calls.client.call<Sum>(xs, [&](std::error_code error, auto) { ends.push_back(error); }));
  calls.until("two refusals", [&] { return ends.size() == 2; });
  EXPECT_EQ(std::ranges::count(ends, code(errc::overloaded)), 2);
  gate.open();
  calls.until("the others", [&] { return ends.size() == 5; });
  EXPECT_EQ(std::ranges::count(ends, std::error_code{}), 3);
}

TEST_F(HandlersTest, ThePeersCreditBoundsHowManyWait) {
  thread_pool pool(1);
  Gate gate;
  std::atomic<std::size_t> ran{0};
  rpc::on(calls.server, 30, pool.get_executor(), [&](rpc::Bytes) {
    gate.wait();
    ++ran;
    return Message{};
  });
  std::size_t started = 0;
  std::size_t ended = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (!calls.client.call(30, message(8), [&](std::error_code, rpc::Bytes) { ++ended; })) ++started;
    calls.turn();
  }
  EXPECT_LE(started, small_options().request_depth);
  gate.open();
  calls.until("all ends", [&] { return ended == started; });
  EXPECT_EQ(ran, started);
}

TEST_F(HandlersTest, AServersEndDropsWhatWaitsAndWaitsForWhatRuns) {
  thread_pool pool(1);
  Gate gate;
  const auto life = std::make_shared<int>();
  std::atomic<int> ran{0};
  std::optional<rpc::Server> server{std::in_place, calls.server_loop, address_of(0)};
  rpc::on(*server, 30, pool.get_executor(), [&, life](rpc::Bytes bytes) {
    gate.wait();
    ++ran;
    return Message(bytes.begin(), bytes.end());
  });
  rpc::Client client = connected(calls, server->port());
  std::deque<Outcome> outcomes(3);
  const Message request = message(3000);  // read in place
  for (Outcome& outcome : outcomes) ASSERT_FALSE(client.call(30, request, outcome.handler()));
  calls.until("the first", [&] { return gate.waiting() == 1; });
  calls.settle(500);
  std::thread opener([&] {
    std::this_thread::sleep_for(20ms);
    gate.open();
  });
  server.reset();
  opener.join();
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(life.use_count(), 1) << "the user's function outlives its server";
  calls.until("the ends", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.error, code(errc::cancelled));
  pool.join();
  EXPECT_EQ(ran, 1);
  calls.expect_echo(message(100));
}

TEST_F(HandlersTest, AnExecutorThatEndsFirstCancels) {
  Gate gate;
  std::deque<Outcome> outcomes(3);
  {
    thread_pool pool(1);
    rpc::on(calls.server, 30, pool.get_executor(), [&](rpc::Bytes) {
      gate.wait();
      return Message{};
    });
    for (Outcome& outcome : outcomes) ASSERT_FALSE(calls.client.call(30, message(8), outcome.handler()));
    calls.until("the first", [&] { return gate.waiting() == 1; });
    calls.settle(500);
    pool.stop();
    gate.open();
  }
  calls.until("all ends", [&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  EXPECT_FALSE(outcomes[0].error);
  EXPECT_EQ(outcomes[1].error, code(errc::cancelled));
  EXPECT_EQ(outcomes[2].error, code(errc::cancelled));
}

TEST_F(HandlersTest, AConnectionMayEndWhileItsFunctionsRun) {
  thread_pool pool(2);
  rpc::on(calls.server, 30, pool.get_executor(),
          [](rpc::Bytes bytes) { return Message(bytes.begin(), bytes.end()); });
  for (int round = 0; round < 20; ++round) {
    rpc::Client client = connected(calls, calls.server.port());
    std::deque<Outcome> outcomes(8);
    for (Outcome& outcome : outcomes) ASSERT_FALSE(client.call(30, message(900), outcome.handler()));
    calls.settle(round * 5);
    client.close();
    EXPECT_TRUE(std::ranges::all_of(outcomes, &Outcome::done));
    calls.until("its end", [&] { return calls.server.connections() == 1; });
  }
  calls.expect_echo(message(100));
}

// ---- Coroutines ----

TEST_F(HandlersTest, ACoroutineAnswersWhenItHasFinished) {
  rpc::on<Greet>(calls.server, [this](std::string_view name) -> awaitable<std::string> {
    boost::asio::steady_timer timer(calls.server_loop.context(), 5ms);
    co_await timer.async_wait(use_awaitable);
    co_return "hello " + std::string(name);  // what it views is still there
  });
  for (const std::size_t size : {3, 500, 20'000}) {
    const std::string name(size, 'x');
    std::optional<std::string> greeting;
    ASSERT_FALSE(calls.client.call<Greet>(name, [&](std::error_code, auto got) { greeting = got; }));
    calls.until("a greeting", [&] { return greeting.has_value(); });
    EXPECT_EQ(*greeting, "hello " + name);
  }
}

TEST_F(HandlersTest, ACoroutineMayRunOnAnExecutor) {
  thread_pool pool(2);
  rpc::on<Sum>(calls.server, pool.get_executor(),
               [](std::span<const double> xs) -> awaitable<double> { co_return sum_of(xs); });
  rpc::on(calls.server, 30, pool.get_executor(),
          [](rpc::Bytes bytes) -> awaitable<Message> { co_return Message(bytes.begin(), bytes.end()); });
  for (const std::size_t count : {0, 1, 1000, 50'000}) ASSERT_NO_FATAL_FAILURE(expect_sums(count));
  Outcome outcome;
  ASSERT_FALSE(calls.client.call(30, message(999), outcome.handler()));
  calls.until("an answer", [&] { return outcome.done(); });
  expect_equal(outcome.reply, message(999));
}

TEST_F(HandlersTest, ACoroutineThatThrowsSaysWhatItsCallSaid) {
  rpc::Client back = connected(calls, calls.server.port());  // any server will do
  rpc::on<Beat>(calls.server, [&]() -> awaitable<void> {
    co_await rpc::async_call(back, 404, {}, use_awaitable);  // nobody has it
  });
  rpc::on<Greet>(calls.server, [](std::string_view) -> awaitable<std::string> {
    throw std::runtime_error("no");
    co_return "";
  });
  std::optional<std::error_code> got;
  ASSERT_FALSE(calls.client.call<Beat>([&](std::error_code error) { got = error; }));
  calls.until("an error", [&] { return got.has_value(); });
  EXPECT_EQ(*got, code(errc::rejected));
  expect_error<Greet>(std::string_view("Ada"), errc::handler_failed);
}

TEST_F(HandlersTest, ACoroutineMayOutliveItsServerAndItsLoop) {
  boost::asio::io_context context{1};
  std::string seen;
  const auto run_until = [&](auto condition) {
    wait_until("the context", [&] {
      context.restart();
      context.poll();
      return condition();
    });
  };
  boost::asio::steady_timer timer(context, std::chrono::hours(1));
  bool begun = false;
  {
    Loop loop{context, small_options()};
    rpc::Server server{loop, address_of(0)};
    rpc::on<Greet>(server, [&](std::string_view name) -> awaitable<std::string> {
      begun = true;
      boost::system::error_code ignored;
      co_await timer.async_wait(boost::asio::redirect_error(use_awaitable, ignored));
      seen = name;
      co_return "too late";
    });
    rpc::Client client;
    rpc::connect(loop, address_of(server.port()),
                 [&](const Error*, rpc::Client made) { client = std::move(made); });
    run_until([&] { return client.is_open(); });
    EXPECT_FALSE(client.call<Greet>(std::string_view("Ada"), [](std::error_code, auto) {}));
    run_until([&] { return begun; });
  }
  timer.cancel();
  run_until([&] { return !seen.empty(); });
  EXPECT_EQ(seen, "Ada");
}

TEST_F(HandlersTest, ALoopsOwnContextTakesItsCoroutinesWithIt) {
  const auto life = std::make_shared<int>();
  {
    Loop loop{small_options()};
    rpc::Server server{loop, address_of(0)};
    bool begun = false;
    rpc::on<Beat>(server, [&]() -> awaitable<void> {
      const auto mine = life;
      begun = true;
      boost::asio::steady_timer timer(loop.context(), std::chrono::hours(1));
      co_await timer.async_wait(use_awaitable);
    });
    rpc::Client client = rpc::connect(loop, address_of(server.port()));
    EXPECT_FALSE(client.call<Beat>([](std::error_code) {}));
    loop.run_until([&] { return begun; });
    EXPECT_EQ(life.use_count(), 2);
  }
  EXPECT_EQ(life.use_count(), 1);
}

}  // namespace
}  // namespace verbena::test
