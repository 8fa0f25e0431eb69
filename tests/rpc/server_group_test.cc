// SPDX-License-Identifier: Apache-2.0
// Several loops, one a thread, behind one port.
#include "verbena/server_group.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <set>
#include <thread>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

Options roomy_options() {
  Options options = small_options();
  options.peers = 64;
  options.large_bytes = 1 << 20;
  return options;
}

void set_echo(rpc::Server& server) {
  server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
}

TEST(ServerGroupTest, EveryLoopGetsConnectionsAndAllCallsAreRight) {
  rpc::ServerGroup group(4, roomy_options(), address_of(0), set_echo);
  EXPECT_EQ(group.size(), 4U);
  Loop loop{roomy_options()};
  std::deque<rpc::Client> clients;
  const auto busy_loops = [&] {
    const auto counts = group.connections();
    return counts.size() - static_cast<std::size_t>(std::ranges::count(counts, 0U));
  };
  while (clients.size() < 16 || (busy_loops() < 4 && clients.size() < 60))
    clients.push_back(rpc::connect(loop, address_of(group.port())));
  EXPECT_EQ(busy_loops(), 4U);
  EXPECT_NE(clients[0].explain().find("over TCP"), std::string::npos) << clients[0].explain();

  std::deque<Outcome> outcomes;
  for (std::uint32_t round = 0; round < 5; ++round) {
    for (std::uint32_t i = 0; i < clients.size(); ++i) {
      const Message request = message(round * 200, i);
      ASSERT_FALSE(clients[i].call(echo, request, outcomes.emplace_back().handler()));
      loop.poll();
    }
  }
  loop.run_until([&] { return std::ranges::all_of(outcomes, &Outcome::done); });
  for (std::uint32_t i = 0; i < outcomes.size(); ++i) {
    const auto client = static_cast<std::uint32_t>(i % clients.size());
    const auto round = static_cast<std::uint32_t>(i / clients.size());
    expect_equal(outcomes[i].reply, message(round * 200, client));
  }
}

TEST(ServerGroupTest, HandlersRunInTheThreadsOfTheirLoops) {
  std::set<std::thread::id> threads;
  {
    const rpc::ServerGroup group(3, roomy_options(), address_of(0),
                                 [&](rpc::Server&) { threads.insert(std::this_thread::get_id()); });
  }
  EXPECT_EQ(threads.size(), 3U);
  EXPECT_FALSE(threads.contains(std::this_thread::get_id()));
}

TEST(ServerGroupTest, ItStopsWhileCallsAreUnderWay) {
  for (int round = 0; round < 5; ++round) {
    Loop loop{roomy_options()};
    std::deque<rpc::Client> clients;
    std::size_t started = 0;
    std::size_t ended = 0;
    const auto call_all = [&] {
      for (rpc::Client& client : clients) {
        while (!client.call(echo, message(100), [&](std::error_code, rpc::Bytes) { ++ended; })) ++started;
      }
    };
    {
      const rpc::ServerGroup group(2, roomy_options(), address_of(0), set_echo);
      for (int i = 0; i < 4; ++i) clients.push_back(rpc::connect(loop, address_of(group.port())));
      for (int i = 0; i < 200 * round; ++i) {
        call_all();
        loop.poll();
      }
    }
    loop.run_until([&] { return std::ranges::none_of(clients, &rpc::Client::is_open); });
    clients.clear();
    EXPECT_EQ(ended, started);
  }
}

// ---- What can't be had ----

TEST(ServerGroupTest, ASetUpThatThrowsLeavesNoThread) {
  int made = 0;
  EXPECT_THROW(rpc::ServerGroup(3, roomy_options(), address_of(0),
                                [&](rpc::Server&) {
                                  if (++made == 2) throw std::runtime_error("no");
                                }),
               std::runtime_error);
  EXPECT_EQ(made, 2);
}

TEST(ServerGroupTest, WrongAddressesAndNoLoopsAreSaid) {
  EXPECT_THROW(rpc::ServerGroup(2, roomy_options(), "nonsense", set_echo), Error);
  EXPECT_THROW(rpc::ServerGroup(0, roomy_options(), address_of(0), set_echo), Error);
}

TEST(ServerGroupTest, APortThatIsNotSharedIsTakenForBoth) {
  Loop first{small_options()};
  const rpc::Server server{first, address_of(0)};
  EXPECT_THROW(rpc::ServerGroup(2, roomy_options(), address_of(server.port()), set_echo), Error);
  const rpc::ServerGroup group(1, roomy_options(), address_of(0), set_echo);
  EXPECT_THROW(rpc::Server(first, address_of(group.port())), Error);
}

}  // namespace
}  // namespace verbena::test
