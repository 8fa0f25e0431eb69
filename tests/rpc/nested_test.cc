// SPDX-License-Identifier: Apache-2.0
// Two nodes whose handlers call each other, in both directions at once, with all that may be in flight in
// flight.
#include <algorithm>
#include <array>
#include <deque>
#include <functional>

#include "rpc/calls.h"
#include "verbena/asio.h"
#include "verbena/handlers.h"

namespace verbena::test {
namespace {

using boost::asio::awaitable;
using boost::asio::use_awaitable;

constexpr std::uint32_t depth = 4;

/// How many more calls to make from one another: answers with how many were made.
struct Descend {
  static constexpr rpc::MethodId id = 31;
  using Request = std::uint32_t;
  using Result = std::uint32_t;
};

/// One of two; `clients[level]` is for its calls that have `level` calls below them, or one for all.
struct Node {
  Node(Loop& loop, std::size_t levels) : server(loop, address_of(0)), clients(levels) {
    rpc::on<Descend>(server, [this](std::uint32_t left) -> awaitable<std::uint32_t> {
      std::uint32_t made = 0;
      if (left > 0) made = co_await rpc::async_call<Descend>(client(left - 1), left - 1, use_awaitable);
      co_return made + 1;
    });
  }
  rpc::Client& client(std::uint32_t level) {
    return clients[std::min<std::size_t>(level, clients.size() - 1)];
  }

  rpc::Server server;
  std::vector<rpc::Client> clients;
};

Options with_room() {
  Options options = small_options();
  options.peers = 2 * depth;
  options.request_depth = 2 * options.call_depth;  // word of new credit may be late: slots are what runs out
  return options;
}

class NestedTest : public testing::TestWithParam<std::size_t> {
 protected:
  NestedTest() {
    for (rpc::Client& client : a.clients) client = connect(loops.server_loop, b.server.port());
    for (rpc::Client& client : b.clients) client = connect(loops.client_loop, a.server.port());
  }
  rpc::Client connect(Loop& loop, std::uint16_t port) {
    rpc::Client client;
    rpc::connect(loop, address_of(port), [&](const Error* error, rpc::Client made) {
      if (error) ADD_FAILURE() << error->what();
      client = std::move(made);
    });
    loops.until("a client", [&] { return client.is_open(); });
    return client;
  }
  struct Ends {
    std::size_t right = 0;
    std::size_t overloaded = 0;
    std::size_t others = 0;
    std::size_t all() const { return right + overloaded + others; }
  };
  /// All call_depth calls of both sides, each of which makes `depth` - 1 more.
  Ends call_from_both_sides() {
    Ends ends;
    std::size_t started = 0;
    for (Node* node : {&a, &b}) {
      const auto note = [&](std::error_code error, std::optional<std::uint32_t> made) {
        if (!error) {
          ++(made == depth ? ends.right : ends.others);
        } else {
          ++(error == errc::overloaded ? ends.overloaded : ends.others);
        }
      };
      while (!node->client(depth - 1).call<Descend>(depth - 1, note)) ++started;
    }
    EXPECT_EQ(started, 2 * with_room().call_depth);
    loops.until("all ends", [&] { return ends.all() == started; });
    return ends;
  }

  Loops loops{with_room(), with_room()};
  Node a{loops.server_loop, GetParam()};
  Node b{loops.client_loop, GetParam()};
};

using OneClientTest = NestedTest;
TEST_P(OneClientTest, CallsFromBothSidesAtFullDepthAllEnd) {
  for (int round = 0; round < 10; ++round) {
    const Ends ends = call_from_both_sides();
    EXPECT_EQ(ends.others, 0U) << "a call that finds no slot is refused, and so is its caller's";
  }
  // Nothing is stuck: with room, they succeed.
  std::optional<std::uint32_t> made;
  ASSERT_FALSE(a.client(0).call<Descend>(depth - 1, [&](std::error_code, auto got) { made = got; }));
  loops.until("a call alone", [&] { return made.has_value(); });
  EXPECT_EQ(made, depth);
}
INSTANTIATE_TEST_SUITE_P(Clients, OneClientTest, testing::Values(1));

using ClientALevelTest = NestedTest;
TEST_P(ClientALevelTest, CallsFromBothSidesAtFullDepthAllSucceed) {
  for (int round = 0; round < 10; ++round) {
    const Ends ends = call_from_both_sides();
    EXPECT_EQ(ends.right, 2 * with_room().call_depth);
  }
}
INSTANTIATE_TEST_SUITE_P(Clients, ClientALevelTest, testing::Values(depth));

}  // namespace
}  // namespace verbena::test
