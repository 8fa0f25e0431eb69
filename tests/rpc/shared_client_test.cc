// SPDX-License-Identifier: Apache-2.0
// One client, called by many threads.
#include "verbena/shared_client.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <future>
#include <numeric>
#include <optional>
#include <thread>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

using boost::asio::use_future;
using namespace std::chrono_literals;

struct Sum {
  static constexpr rpc::MethodId id = 41;
  using Request = std::vector<double>;
  using Result = double;
};
struct Beat {
  static constexpr rpc::MethodId id = 42;
  using Request = void;
  using Result = void;
};

std::error_code code_of(const std::exception_ptr& failure) {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    return error.code();
  }
}

class SharedClientTest : public testing::Test {
 protected:
  SharedClientTest() {
    calls.server.on<Sum>(
        [](const std::vector<double>& xs) { return std::accumulate(xs.begin(), xs.end(), 0.0); });
    calls.server.on<Beat>([this] { ++beats; });
    share(1024);
  }
  void share(std::size_t most) {
    sharing.reset();
    sharing.emplace(connected(calls, calls.server.port()), most);
    shared = sharing->client();
  }

  Calls calls;
  int beats = 0;
  std::optional<rpc::Sharing> sharing;
  rpc::SharedClient shared;
};

TEST_F(SharedClientTest, FourThreadsCallAtOnceAndEachGetsItsOwnReplies) {
  constexpr std::uint32_t threads = 4;
  constexpr std::uint32_t each = 300;
  std::atomic<std::uint32_t> ended{0};
  std::atomic<std::uint32_t> wrong{0};
  std::vector<std::thread> callers;
  for (std::uint32_t thread = 0; thread < threads; ++thread) {
    callers.emplace_back([&, thread, mine = shared] {
      for (std::uint32_t i = 0; i < each; ++i) {
        const Message request = message(i % 3 == 0 ? 3000 : i, thread * each + i);
        try {
          wrong += mine.call(echo, rpc::Bytes(request), use_future).get() != request;
        } catch (const std::exception&) {
          ++wrong;
        }
      }
      ++ended;
    });
  }
  calls.until(
      "all threads", [&] { return ended == threads; }, 60s);
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0U);
}

TEST_F(SharedClientTest, MoreCallsThanSlotsWaitInOrder) {
  const std::size_t count = 10 * small_options().call_depth;
  std::vector<std::size_t> order;
  std::thread caller([&] {
    for (std::size_t i = 0; i < count; ++i) {
      shared.call(echo, message(8), [&, i](std::exception_ptr failure, Message) {
        EXPECT_FALSE(failure);
        order.push_back(i);  // in the loop's thread
      });
    }
  });
  calls.until("all", [&] { return order.size() == count; });
  caller.join();
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST_F(SharedClientTest, TypedCallsCarryValues) {
  std::atomic<bool> done{false};
  std::thread caller([&] {
    std::vector<double> xs(20'000, 0.5);
    EXPECT_EQ(shared.call<Sum>(xs, use_future).get(), 10'000.0);
    shared.call<Beat>(use_future).get();
    done = true;
  });
  calls.until("a sum and a beat", [&] { return done.load(); });
  caller.join();
  EXPECT_EQ(beats, 1);
}

TEST_F(SharedClientTest, AHandlerRunsInTheLoopsThreadOrOnItsExecutor) {
  std::thread::id here;
  std::atomic<bool> elsewhere{false};
  boost::asio::thread_pool pool(1);
  std::thread caller([&] {
    shared.call(echo, message(8), [&](std::exception_ptr, Message) { here = std::this_thread::get_id(); });
    shared.call(echo, message(8),
                boost::asio::bind_executor(
                    pool, [&, loops = std::this_thread::get_id()](std::exception_ptr, Message) {
                      elsewhere = std::this_thread::get_id() != loops;
                    }));
  });
  calls.until("both", [&] { return here != std::thread::id{} && elsewhere; });
  caller.join();
  EXPECT_EQ(here, std::this_thread::get_id());
}

// ---- What goes wrong ----

TEST_F(SharedClientTest, ErrorsArriveInTheHandler) {
  std::optional<std::error_code> error;
  const auto note = [&](std::exception_ptr failure, Message) { error = code_of(failure); };
  shared.call(404, Message{}, note);
  calls.until("a rejection", [&] { return error.has_value(); });
  EXPECT_EQ(*error, code(errc::rejected));
  error.reset();
  shared.call(echo, Message(small_options().large_bytes + 1), note);
  calls.until("a refusal", [&] { return error.has_value(); });
  EXPECT_EQ(*error, code(errc::message_too_long));
}

TEST_F(SharedClientTest, OneMoreThanTheMostIsOverloadAtOnce) {
  share(4);
  std::vector<std::error_code> ends;
  const auto note = [&](std::exception_ptr failure, Message) { ends.push_back(code_of(failure)); };
  for (int i = 0; i < 6; ++i)
    shared.call(echo, message(8), note);  // the loop hasn't turned: all of them wait
  EXPECT_TRUE(ends.empty()) << "inside the call";
  calls.until("all", [&] { return ends.size() == 6; });
  EXPECT_EQ(std::ranges::count(ends, code(errc::overloaded)), 2);
  EXPECT_EQ(std::ranges::count(ends, std::error_code{}), 4);
}

TEST_F(SharedClientTest, TheDeadlineCountsFromTheCallAlsoWhileItWaits) {
  std::size_t over = 0;
  const auto note = [&](std::exception_ptr failure, Message) { over += code_of(failure) == errc::timed_out; };
  const std::size_t slots = small_options().call_depth;
  for (std::size_t i = 0; i < slots; ++i) shared.call(keep, message(8), [](std::exception_ptr, Message) {});
  calls.until("the slots taken", [&] { return calls.kept.size() == slots; });
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 5; ++i) shared.call(echo, message(8), note, 30ms);
  calls.until("their deadlines", [&] { return over == 5; });
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 30ms);
  EXPECT_EQ(sharing->waiting(), 0U);
  calls.kept.clear();
}

TEST_F(SharedClientTest, CallsThatWaitForCreditGoOnWhenItComesBack) {
  std::deque<rpc::Held> held;
  std::deque<rpc::Reply> owed;
  calls.server.on(5, [&](rpc::Bytes request, rpc::Reply& reply) {
    held.push_back(reply.hold(request));
    reply.send({});
  });
  const std::size_t credit = small_options().request_depth;
  std::size_t ended = 0;
  for (std::size_t i = 0; i < credit + 5; ++i) {
    shared.call(5, message(8), [&](std::exception_ptr failure, Message) { ended += !failure; });
    calls.settle(20);
  }
  calls.until("no credit", [&] { return sharing->waiting() > 0 && held.size() == ended; });
  while (ended < credit + 5) {
    held.clear();
    calls.turn();
  }
  EXPECT_EQ(sharing->waiting(), 0U);
}

TEST_F(SharedClientTest, ItMayOutliveItsSharingAndItsLoop) {
  std::vector<std::error_code> ends;
  const auto note = [&](std::exception_ptr failure, Message) { ends.push_back(code_of(failure)); };
  shared.call(echo, message(8), note);
  shared.call(keep, message(8), note);
  sharing.reset();
  calls.until("one that was in the inbox", [&] { return ends.size() == 2; });
  shared.call(echo, message(8), note);
  calls.until("one that came too late", [&] { return ends.size() == 3; });
  EXPECT_EQ(std::ranges::count(ends, code(errc::cancelled)), 3);
  std::optional<Loop> loop{std::in_place, small_options()};
  std::atomic<int> late{0};
  {
    // A client of a loop that ends.
    std::optional<rpc::Client> client;
    rpc::connect(*loop, address_of(calls.server.port()),
                 [&](const Error*, rpc::Client made) { client = std::move(made); });
    calls.until("a client", [&] {
      loop->poll();
      Loops::look(*loop);
      return client.has_value();
    });
    rpc::Sharing other{std::move(*client)};
    shared = other.client();
  }
  loop.reset();
  shared.call(echo, message(8), [&](std::exception_ptr failure, Message) {
    EXPECT_EQ(code_of(failure), code(errc::cancelled));
    ++late;
  });
  wait_until("the end of a call to nobody", [&] { return late == 1; });
}

TEST_F(SharedClientTest, ALostConnectionEndsWhatWaits) {
  const std::size_t count = 3 * small_options().call_depth;
  std::size_t lost = 0;
  for (std::size_t i = 0; i < count; ++i) {
    shared.call(keep, message(8),
                [&](std::exception_ptr failure, Message) { lost += code_of(failure) != std::error_code{}; });
  }
  calls.until("the first", [&] { return !calls.kept.empty(); });
  sharing->own().close();
  calls.until("all", [&] { return lost == count; });
}

}  // namespace
}  // namespace verbena::test
