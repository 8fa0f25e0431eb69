// SPDX-License-Identifier: Apache-2.0
// Children of a process that has connections: they come and go, touch what isn't theirs, and open their own.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "support/forked.h"
#include "transport/reacher.h"
#include "verbena/pool.h"

namespace verbena::test {
namespace {

constexpr std::size_t length = 40'000;

Options options_with_a_pool() {
  Options options = small_options();
  options.pool_bytes = 1 << 20;
  return options;
}

// ---- The parent ----

enum class Ends { exits, execs };

/// A child that overwrites what its parent has registered, and goes.
void scribble_and_go(Message& memory, Ends how) {
  std::ranges::fill(memory, std::byte{0xdd});
  if (how == Ends::exits) return;
  execl("/bin/true", "true", nullptr);
  _exit(127);
}

class ForkingParentTest : public testing::TestWithParam<Ends> {
 protected:
  Loop loop{small_options()};
  Reacher peer{loop};
  Message memory = message(length, 1);
  Region region = loop.memory().share(std::span(memory), Access::all);
};

TEST_P(ForkingParentTest, PeersMeetItsMemoryWhileChildrenComeAndGo) {
  std::optional<Forked> child;
  for (std::uint32_t round = 2; round < 2 + rounds(20); ++round) {
    child.emplace([&] { scribble_and_go(memory, GetParam()); });
    // The first store behind a fork copies the page: on the parent's side it must stay the registered one.
    std::ranges::copy(message(length, round), memory.begin());
    const auto read = peer.read(region.remote(), round);
    ASSERT_EQ(read.error, std::error_code{});
    ASSERT_TRUE(read.equal) << "round " << round;
    ASSERT_EQ(peer.write(region.remote(), round + 1000), std::error_code{});
    ASSERT_NO_FATAL_FAILURE(expect_equal(memory, message(length, round + 1000)));
    ASSERT_EQ(child->join(), 0);
    ASSERT_NO_FATAL_FAILURE(expect_equal(memory, message(length, round + 1000)));
  }
  peer.finish();
}

INSTANTIATE_TEST_SUITE_P(OfChildren, ForkingParentTest, testing::Values(Ends::exits, Ends::execs),
                         [](const auto& test) {
                           return test.param == Ends::exits ? "ThatExit" : "ThatExec";
                         });

// ---- The child ----

/// What `call` throws, which must be an Error.
std::error_code thrown_by(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return {};
}

class ForkedChildTest : public testing::Test {
 protected:
  /// A message each way.
  void expect_still_connected() {
    std::size_t there = 0;
    std::size_t back = 0;
    both->server.on_message([&](std::span<const std::byte> bytes) { there = bytes.size(); });
    both->client.on_message([&](std::span<const std::byte> bytes) { back = bytes.size(); });
    ASSERT_EQ(both->client.send(message(700)), std::error_code{});
    const Message large = message(50'000);
    Noted sent;
    ASSERT_EQ(both->server.send(large, sent), std::error_code{});
    both->until("messages each way", [&] { return there == 700 && back == 50'000 && sent.done(); });
  }

  std::optional<Connected> both{std::in_place, options_with_a_pool(), options_with_a_pool()};
};

TEST_F(ForkedChildTest, IsToldThatWhatItTouchesIsItsParents) {
  Region region = both->client_loop.memory().allocate(4096);
  const Region far = both->server_loop.memory().allocate(4096);
  const auto others = code(errc::other_process);
  Forked child{[&] {
    Loop& loop = both->client_loop;
    Noted none;
    require(thrown_by([&] { loop.poll(); }) == others, "poll() says so");
    require(thrown_by([&] { loop.run(); }) == others, "run() says so");
    require(thrown_by([&] { loop.memory().allocate(1); }) == others, "allocate() says so");
    require(thrown_by([&] { loop.memory().share(region.bytes(), Access::all); }) == others,
            "share() says so");
    require(thrown_by([&] { listen(loop, address_of(0), [](Connection) {}); }) == others, "listen() says so");
    require(thrown_by([&] { connect(loop, address_of(1), [](const Error*, Connection) {}); }) == others,
            "connect() says so");
    require(both->client.send(message(10)) == others, "send() says so");
    require(both->client.put(region.slice(), far.remote(), 0, none) == others, "put() says so");
    require(region.revoke() == others, "revoke() says so");
    require(!both->client.is_open(), "the connection is not open");
    require(!loop.poster().post([] {}), "nothing can be posted");
    require(loop.memory().pool().take(64) == nullptr, "the pool gives nothing");
    require(thrown_by([&] { std::pmr::vector<int>(10, &loop.memory().pool()); }) == others,
            "a vector in the pool says so");
    require(!none.done(), "nothing that was refused completes");
  }};
  EXPECT_EQ(child.join(), 0);
  expect_still_connected();
  EXPECT_EQ(region.revoke(), std::error_code{});
}

TEST_F(ForkedChildTest, MayDestroyWhatItsParentGoesOnWith) {
  std::optional<Region> region{both->client_loop.memory().allocate(4096, Access::all)};
  std::optional<std::pmr::vector<int>> vector{std::in_place, 1000, 5, &both->client_loop.memory().pool()};
  const RemoteRegion key = region->remote();
  Noted put;
  const Region near = both->server_loop.memory().allocate(64);
  ASSERT_EQ(both->server.put(near.slice(), key, 0, put), std::error_code{});  // under way meanwhile
  Forked child{[&] {
    vector.reset();
    region.reset();
    both.reset();
  }};
  EXPECT_EQ(child.join(), 0);
  both->until("the put", [&] { return put.done(); });
  EXPECT_EQ(put.error, std::error_code{});
  EXPECT_EQ((*vector)[999], 5);
  expect_still_connected();
}

TEST_F(ForkedChildTest, OpensALoopOfItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer allows no threads in the child of a process with several";
#endif
  Forked child{[&] {
    Connected own;
    std::size_t got = 0;
    own.server.on_message([&](std::span<const std::byte> bytes) { got = bytes.size(); });
    const Message large = message(30'000);
    Noted sent;
    require(!own.client.send(large, sent), "its own connection sends");
    own.until("its own message", [&] { return got == large.size() && sent.done(); });
  }};
  EXPECT_EQ(child.join(), 0);
  expect_still_connected();
}

TEST_F(ForkedChildTest, OfAChildIsToldToo) {
  Forked child{[&] {
    Forked grandchild{[&] {
      require(thrown_by([&] { both->client_loop.poll(); }) == code(errc::other_process), "poll() says so");
    }};
    require(grandchild.join() == 0, "its own child is told");
  }};
  EXPECT_EQ(child.join(), 0);
  expect_still_connected();
}

// ---- The peer ----

/// Connects, forks a child that stays, and waits to be killed.
const Role parent_of_one{"parent_of_one", [](Line& test) {
                           Loop loop{small_options()};
                           const Connection connection = connect(loop, address_of(test.get<std::uint16_t>()));
                           if (fork() == 0) {
                             test.put('c');
                             test.sleep_until_woken();  // until the test is over
                             _exit(0);
                           }
                           loop.run();
                         }};

TEST(PeerOfAForkedProcessTest, NoticesTheProcesssDeathThoughItsChildLives) {
  Loop loop{small_options()};
  Connection peer;
  const Listener listener =
      listen(loop, address_of(0), [&](Connection connection) { peer = std::move(connection); });
  Child child{"parent_of_one"};
  child.line().put(listener.port());
  const auto turn = [&] {
    loop.poll();
    Loops::look(loop);
  };
  wait_until("the peer", [&] { return turn(), peer.is_open(); });
  child.line().get<char>();  // of the grandchild
  const Ending ending{peer};
  child.kill();
  wait_until("word of its death", [&] { return turn(), ending.times > 0; });
  EXPECT_EQ(ending.error, code(errc::connection_lost)) << ending.why;
}

}  // namespace
}  // namespace verbena::test
