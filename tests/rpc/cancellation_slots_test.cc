// SPDX-License-Identifier: Apache-2.0
// Asio's cancellation slots give calls up, where the installed Boost has them.
#include "verbena/cancellation.h"

#include "rpc/calls.h"
#include "verbena/async_stream.h"

#if VERBENA_HAS_CANCELLATION_SLOTS
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#endif

namespace verbena::test {
namespace {

#if VERBENA_HAS_CANCELLATION_SLOTS

namespace asio = boost::asio;
using asio::use_awaitable;
using namespace std::chrono_literals;

/// Nobody answers it.
struct Ask {
  static constexpr rpc::MethodId id = keep;
  using Request = std::string;
  using Result = std::string;
};

class CancellationSlotsTest : public testing::Test {
 protected:
  static std::error_code code_of(const std::exception_ptr& failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
      return error.code();
    }
    return {};
  }

  Calls calls;
  asio::cancellation_signal signal;
  int times = 0;
  std::exception_ptr failure;
};

TEST_F(CancellationSlotsTest, ASignalGivesTheCallUp) {
  const Message request = message(100'000);
  rpc::async_call(calls.client, keep, request,
                  asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr error, Message) {
                    ++times;
                    failure = error;
                  }));
  signal.emit(asio::cancellation_type::terminal);
  EXPECT_EQ(times, 0) << "not inside the emission";
  calls.until("the cancellation", [&] { return times == 1; });
  EXPECT_EQ(code_of(failure), code(errc::cancelled));
  EXPECT_EQ(calls.client.in_flight(), 0U);
}

TEST_F(CancellationSlotsTest, AfterTheReplyTheSlotIsFree) {
  rpc::async_call(calls.client, echo, message(8),
                  asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr error, Message) {
                    ++times;
                    failure = error;
                  }));
  calls.until("the reply", [&] { return times == 1; });
  EXPECT_FALSE(signal.slot().has_handler());
  signal.emit(asio::cancellation_type::all);
  calls.settle(200);
  EXPECT_EQ(times, 1);
  EXPECT_FALSE(failure);
}

TEST_F(CancellationSlotsTest, TheSlowerOfTwoIsGivenUp) {
  using namespace asio::experimental::awaitable_operators;
  bool done = false;
  asio::co_spawn(
      calls.client_loop.context(),
      [&]() -> asio::awaitable<void> {
        asio::steady_timer timer(calls.client_loop.context(), 5ms);
        const auto first = co_await (rpc::async_call<Ask>(calls.client, "why?", use_awaitable) ||
                                     timer.async_wait(use_awaitable));
        EXPECT_EQ(first.index(), 1U);
      },
      [&](std::exception_ptr error) {
        failure = error;
        done = true;
      });
  calls.until("the race", [&] {
    Loops::look(calls.client_loop);
    return done;
  });
  EXPECT_FALSE(failure);
  EXPECT_EQ(calls.client.in_flight(), 0U);
}

TEST_F(CancellationSlotsTest, AClientMayEndBeforeItsSignal) {
  std::optional<rpc::Client> other = connected(calls, calls.server.port());
  rpc::async_call(*other, keep, message(8),
                  asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr error, Message) {
                    ++times;
                    failure = error;
                  }));
  other.reset();
  signal.emit(asio::cancellation_type::all);
  calls.until("its end", [&] { return times == 1; });
  EXPECT_EQ(code_of(failure), code(errc::cancelled));
}

TEST_F(CancellationSlotsTest, ASignalEndsAStream) {
  rpc::StreamReader parts(calls.client, keep, {});
  parts.next(
      asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr error, std::optional<Message>) {
        ++times;
        failure = error;
      }));
  signal.emit(asio::cancellation_type::partial);
  calls.until("its end", [&] { return times == 1; });
  EXPECT_EQ(code_of(failure), code(errc::cancelled));
}

#else

TEST(CancellationSlotsTest, BoostHasThem) {
  GTEST_SKIP() << "this Boost has no cancellation slots; 1.77 and later have";
}

#endif

}  // namespace
}  // namespace verbena::test
