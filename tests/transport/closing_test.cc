// SPDX-License-Identifier: Apache-2.0
// How a connection ends.
#include <algorithm>
#include <optional>

#include "transport/loops.h"

namespace verbena::test {
namespace {

TEST(ClosingTest, WhatWasSentBeforeCloseArrives) {
  for (const std::size_t size : {8, 1000}) {
    Connected both;
    Inbox inbox{both.server};
    Ending ending{both.server};
    for (std::uint32_t i = 0; i < small_options().request_depth; ++i)
      ASSERT_FALSE(both.client.send(message(size, i)));
    both.client.close();
    both.until("the end", [&] { return ending.times > 0; });
    EXPECT_EQ(inbox.messages.size(), small_options().request_depth);
    EXPECT_EQ(ending.error, code(errc::connection_lost));
    EXPECT_NE(ending.why, "");
  }
}

TEST(ClosingTest, ItsOwnSideHearsNothingOfAClose) {
  Connected both;
  Ending near_end{both.client};
  Ending far_end{both.server};
  both.client.close();
  EXPECT_FALSE(both.client.is_open());
  both.until("the peer's word of it", [&] { return far_end.times > 0; });
  both.settle();
  EXPECT_EQ(near_end.times, 0);
  EXPECT_EQ(far_end.times, 1);
}

TEST(ClosingTest, NothingCanBeStartedAfterwards) {
  Connected both;
  both.client.close();
  both.client.close();
  Noted none;
  const Region region = both.client_loop.memory().allocate(64);
  EXPECT_EQ(both.client.send(message(8)), code(errc::connection_lost));
  EXPECT_EQ(both.client.send(message(8), none), code(errc::connection_lost));
  EXPECT_EQ(both.client.put(region.slice(), {}, 0, none), code(errc::connection_lost));
  EXPECT_EQ(both.client.fetch_add(region.slice(0, 8), {}, 0, 1, none), code(errc::connection_lost));
  both.settle();
  EXPECT_FALSE(none.done());
}

TEST(ClosingTest, WhatWasUnderWayCompletesOnce) {
  Connected both;
  const Region near = both.client_loop.memory().allocate(65536);
  const Region far = both.server_loop.memory().allocate(65536);
  std::deque<Noted> operations(9);
  const Message large = message(50'000);
  for (std::size_t i = 0; i < operations.size(); i += 3) {
    ASSERT_FALSE(both.client.put(near.slice(), far.remote(), 0, operations[i]));
    ASSERT_FALSE(both.client.send(message(100), operations[i + 1]));
    ASSERT_FALSE(both.client.send(large, operations[i + 2]));
  }
  both.client.close();
  EXPECT_TRUE(std::ranges::none_of(operations, &Noted::done)) << "completed inside close()";
  both.until("their completion", [&] { return std::ranges::all_of(operations, &Noted::done); });
  both.settle();
  for (const Noted& one : operations) EXPECT_EQ(one.times, 1);
}

TEST(ClosingTest, DestroyingTheHandleCloses) {
  Connected both;
  Ending ending{both.server};
  { const Connection gone = std::move(both.client); }
  both.until("the end", [&] { return ending.times > 0; });
}

TEST(ClosingTest, AHandlerMayCloseItsConnection) {
  Connected both;
  Ending ending{both.client};
  int received = 0;
  both.server.on_message([&](std::span<const std::byte>) {
    ++received;
    both.server.close();
  });
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(both.client.send(message(8)));
  both.until("the end", [&] { return ending.times > 0; });
  EXPECT_EQ(received, 1);
}

TEST(ClosingTest, ACompletionMayCloseItsConnection) {
  Connected both;
  Ending ending{both.server};
  struct Closer : Operation {
    Connection* connection = nullptr;
  } closer;
  closer.connection = &both.client;
  closer.complete = [](Operation* self, std::error_code, std::size_t) noexcept {
    static_cast<Closer*>(self)->connection->close();
  };
  Noted behind;
  ASSERT_FALSE(both.client.send(message(8), closer));
  ASSERT_FALSE(both.client.send(message(8), behind));
  both.until("the end", [&] { return ending.times > 0 && behind.done(); });
  EXPECT_EQ(behind.times, 1);
}

TEST(ClosingTest, ALoopMayGoBeforeItsPeer) {
  std::optional<Connected> both;
  both.emplace();
  Loop peer_loop{small_options()};
  Connection peer;
  Ending* heard = nullptr;
  connect(peer_loop, address_of(both->listener.port()),
          [&](const Error*, Connection made) { peer = std::move(made); });
  wait_until("a connection", [&] {
    both->turn();
    peer_loop.poll();
    Loops::look(peer_loop);
    return peer.is_open();
  });
  Ending ending{peer};
  heard = &ending;
  both.reset();
  wait_until("the end", [&] {
    peer_loop.poll();
    Loops::look(peer_loop);
    return heard->times > 0;
  });
  EXPECT_EQ(ending.error, code(errc::connection_lost));
}

TEST(ClosingTest, APlaceIsUsedAgainManyTimes) {
  Options options = small_options();
  options.peers = 1;
  Loops loops{options, options};
  Connection server;
  const Listener listener = listen(loops.server_loop, address_of(0),
                                   [&](Connection connection) { server = std::move(connection); });
  for (std::size_t i = 0; i < rounds(100); ++i) {
    Connection client;
    connect(loops.client_loop, address_of(listener.port()), [&](const Error* error, Connection connection) {
      if (error) ADD_FAILURE() << error->what();
      client = std::move(connection);
    });
    loops.until("a connection", [&] { return client.is_open() && server.is_open(); });
    Inbox inbox{server};
    Ending ending{server};
    for (std::uint32_t n = 0; n < 20; ++n) {
      loops.until("room", [&] { return !client.send(message(30, n)); });
    }
    client.close();
    loops.until("the end", [&] { return ending.times > 0; });
    EXPECT_EQ(inbox.messages.size(), 20U);
    loops.settle(200);
  }
  EXPECT_EQ(loops.server_loop.statistics().violations, 0U);
}

}  // namespace
}  // namespace verbena::test
