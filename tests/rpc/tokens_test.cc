// SPDX-License-Identifier: Apache-2.0
// The same operations by Asio's completion tokens: callbacks, futures, coroutines.
#include "verbena/asio.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <functional>
#include <future>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using boost::asio::awaitable;
using boost::asio::use_awaitable;
using boost::asio::use_future;
using namespace std::chrono_literals;

struct Reverse {
  static constexpr rpc::MethodId id = 12;
  using Request = std::vector<std::byte>;
  using Result = std::vector<std::byte>;
};

struct Join {
  static constexpr rpc::MethodId id = 13;
  using Request = std::tuple<std::string, std::vector<std::string>>;
  using Result = std::optional<std::string>;
};
struct Beat {
  static constexpr rpc::MethodId id = 14;
  using Request = void;
  using Result = void;
};

Message reversed(const Message& bytes) {
  return {bytes.rbegin(), bytes.rend()};
}

class TokensTest : public testing::Test {
 protected:
  TokensTest() { calls.server.on<Reverse>(&reversed); }
  /// Runs a coroutine to its end on the client's loop; rethrows what it throws.
  void run(awaitable<void> coroutine) {
    bool done = false;
    std::exception_ptr failure;
    boost::asio::co_spawn(calls.client_loop.context(), std::move(coroutine), [&](std::exception_ptr error) {
      failure = error;
      done = true;
    });
    calls.until("a coroutine", [&] { return done; });
    if (failure) std::rethrow_exception(failure);
  }
  template <class T>
  T wait(std::future<T> future) {
    calls.until("a future", [&] { return future.wait_for(0s) == std::future_status::ready; });
    return future.get();
  }
  static std::error_code code_of(const std::function<void()>& attempt) {
    try {
      attempt();
    } catch (const std::system_error& error) {
      return error.code();
    }
    return {};
  }

  Calls calls;
  std::string address = address_of(calls.server.port());
};

// ---- Coroutines ----

TEST_F(TokensTest, ACoroutineConnectsAndCalls) {
  run([](Calls& ends, const std::string& where) -> awaitable<void> {
    rpc::Client client = co_await rpc::async_connect(ends.client_loop, where, use_awaitable);
    for (const std::size_t size : {0, 8, 1000, 100'000}) {
      const Message request = message(size);
      expect_equal(co_await rpc::async_call(client, echo, request, use_awaitable), request);
      expect_equal(co_await rpc::async_call<Reverse>(client, request, use_awaitable), reversed(request));
    }
  }(calls, address));
}

TEST_F(TokensTest, ACoroutineConnectsWithAPolicy) {
  run([](Calls& ends, const std::string& where) -> awaitable<void> {
    const rpc::ReconnectPolicy policy{.tries = 3};
    rpc::Client client = co_await rpc::async_connect(ends.client_loop, where, policy, use_awaitable);
    expect_equal(co_await rpc::async_call(client, echo, message(8), use_awaitable), message(8));
    std::error_code error;
    try {
      co_await rpc::async_connect(ends.client_loop, where, rpc::ReconnectPolicy{.factor = 0}, use_awaitable);
    } catch (const Error& failure) {
      error = failure.code();
    }
    EXPECT_EQ(error, code(errc::invalid_argument));
  }(calls, address));
}

TEST_F(TokensTest, ACoroutineCallsWithNestedValuesAndWithNothing) {
  int beats = 0;
  calls.server.on<Beat>([&] { ++beats; });
  calls.server.on<Join>([](const Join::Request& request) -> Join::Result {
    const auto& [between, words] = request;
    if (words.empty()) return std::nullopt;
    std::string joined = words.front();
    for (std::size_t i = 1; i < words.size(); ++i) joined += between + words[i];
    return joined;
  });
  run([](rpc::Client& client) -> awaitable<void> {
    co_await rpc::async_call<Beat>(client, use_awaitable);
    Join::Request request{", ", {"a", "b"}};
    EXPECT_EQ(co_await rpc::async_call<Join>(client, request, use_awaitable), "a, b");
    std::get<1>(request).assign(3, std::string(100'000, 'x'));  // it isn't kept by us
    const auto joined = co_await rpc::async_call<Join>(client, std::move(request), use_awaitable, 30s);
    EXPECT_EQ(joined->size(), 300'004U);
    request = {};
    EXPECT_EQ(co_await rpc::async_call<Join>(client, request, use_awaitable), std::nullopt);
  }(calls.client));
  EXPECT_EQ(beats, 1);
  wait(rpc::async_call<Beat>(calls.client, use_future));
  EXPECT_EQ(beats, 2);
}

TEST_F(TokensTest, AFailureThrowsInTheCoroutine) {
  run([](Calls& ends) -> awaitable<void> {
    std::error_code error;
    try {
      co_await rpc::async_call(ends.client, 404, {}, use_awaitable);
    } catch (const std::system_error& failure) {
      error = failure.code();
    }
    EXPECT_EQ(error, code(errc::rejected));
    try {
      co_await rpc::async_call(ends.client, keep, {}, use_awaitable, 20ms);
    } catch (const std::system_error& failure) {
      error = failure.code();
    }
    EXPECT_EQ(error, code(errc::timed_out));
    try {
      co_await rpc::async_connect(ends.client_loop, "nonsense", use_awaitable);
    } catch (const Error& failure) {
      error = failure.code();
    }
    EXPECT_EQ(error, code(errc::address_unusable));
  }(calls));
}

TEST_F(TokensTest, ACoroutineAwaitsOneSidedOperations) {
  const Region near = calls.client_loop.memory().allocate(4096);
  const Region far = calls.server_loop.memory().allocate(4096);
  Connection server;
  const Listener listener = listen(calls.server_loop, address_of(0),
                                   [&](Connection connection) { server = std::move(connection); });
  std::ranges::copy(message(4096), far.bytes().begin());
  run([](Calls& ends, std::string where, const Region& to, const Region& from) -> awaitable<void> {
    Loop& loop = ends.client_loop;
    Connection peer = co_await async_connect(loop, where, use_awaitable);
    const auto get = [&](Operation& done) { return peer.get(to.slice(), from.remote(), 0, done); };
    EXPECT_EQ(co_await async_start(loop, get, use_awaitable), 4096U);
    expect_equal(to.bytes(), from.bytes());
    const auto wrong = [&](Operation& done) { return peer.get(to.slice(), from.remote(), 1, done); };
    std::error_code error;
    try {
      co_await async_start(loop, wrong, use_awaitable);
    } catch (const std::system_error& failure) {
      error = failure.code();
    }
    EXPECT_EQ(error, code(errc::invalid_argument));
  }(calls, address_of(listener.port()), near, far));
}

// ---- Futures and callbacks ----

TEST_F(TokensTest, AFutureHoldsTheReplyOrTheFailure) {
  rpc::Client client = wait(rpc::async_connect(calls.client_loop, address, use_future));
  const Message request = message(2000);
  expect_equal(wait(rpc::async_call(client, echo, request, use_future)), request);
  expect_equal(wait(rpc::async_call<Reverse>(client, request, use_future)), reversed(request));
  EXPECT_EQ(code_of([&] { wait(rpc::async_call(client, 404, {}, use_future)); }), code(errc::rejected));
}

TEST_F(TokensTest, ACallbackRunsOnceAndNotInsideTheCall) {
  int times = 0;
  rpc::async_call(calls.client, echo, message(8), [&](std::exception_ptr error, Message reply) {
    EXPECT_FALSE(error);
    EXPECT_EQ(reply.size(), 8U);
    ++times;
  });
  EXPECT_EQ(times, 0);
  calls.until("the callback", [&] { return times > 0; });
  calls.settle(50);
  EXPECT_EQ(times, 1);
}

TEST_F(TokensTest, AnErrorOfTheCallItselfArrivesInTheHandlerToo) {
  int times = 0;
  const Message request = message(small_options().large_bytes + 1);
  rpc::async_call(calls.client, echo, request, [&](std::exception_ptr error, Message) {
    EXPECT_EQ(code_of([&] { std::rethrow_exception(error); }), code(errc::message_too_long));
    ++times;
  });
  EXPECT_EQ(times, 0);
  calls.until("the callback", [&] { return times > 0; });
}

TEST_F(TokensTest, ALargeRequestOfATypedCallIsKeptUntilItIsAnswered) {
  for (int i = 0; i < 20; ++i) {
    Message request = message(200'000, static_cast<std::uint32_t>(i));
    const Message wanted = reversed(request);
    auto future = rpc::async_call<Reverse>(calls.client, std::move(request), use_future);
    const Message scribble(200'000, std::byte{0xee});  // where the request lay, if it was let go
    expect_equal(wait(std::move(future)), wanted);
  }
}

}  // namespace
}  // namespace verbena::test
