// SPDX-License-Identifier: Apache-2.0
// Meeting by rdma_cm, and where it can't be had: on a real device only.
#include <cstdlib>
#include <optional>

#include "support/child.h"
#include "transport/loops.h"

namespace verbena::test {
namespace {

bool says(const std::string& sentence, const std::string& part) {
  return sentence.find(part) != std::string::npos;
}

/// This host's address on the device.
std::string host() {
  const char* address = std::getenv("VERBENA_RXE_ADDRESS");
  return address ? address : "";
}
std::string at(const std::string& scheme, const std::string& host, std::uint16_t port) {
  return scheme + "://" + host + ":" + std::to_string(port);
}

/// A listener at `listen_at`, and a client that has connected to the same host and port as `scheme`.
struct Met : Loops {
  Met(const std::string& listen_scheme, const std::string& connect_scheme, const std::string& host) {
    listener = listen(server_loop, at(listen_scheme, host, 0),
                      [this](Connection connection) { server = std::move(connection); });
    std::optional<std::string> failure;
    connect(client_loop, at(connect_scheme, host, listener.port()),
            [&](const Error* error, Connection connection) {
              failure = error ? error->what() : "";
              client = std::move(connection);
            });
    until("a connection", [&] { return failure && (!failure->empty() || server.is_open()); });
    EXPECT_EQ(*failure, "");
  }
  Listener listener;
  Connection server;
  Connection client;
};

class CmExchangeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (on_soft0() || host().empty()) GTEST_SKIP() << "rdma_cm needs a real device";
  }
};

TEST_F(CmExchangeTest, BothSidesMeetByRdmaCm) {
  Met both{"rdma", "rdma", host()};
  EXPECT_TRUE(says(both.client.explain(), "by rdma_cm,")) << both.client.explain();
  EXPECT_TRUE(says(both.server.explain(), "by rdma_cm,")) << both.server.explain();
  EXPECT_EQ(both.client.peer(), host() + ":" + std::to_string(both.listener.port()));
}

TEST_F(CmExchangeTest, MessagesOfEverySizeArrive) {
  Met both{"rdma", "rdma", host()};
  Inbox inbox{both.server};
  for (const std::size_t size : {0u, 1u, 100u, 1000u, 10'000u, 50'000u}) {
    Noted sent;
    const Message bytes = message(size, static_cast<std::uint32_t>(size));
    ASSERT_FALSE(both.client.send(bytes, sent));
    both.until("a message", [&] { return sent.done() && inbox.messages.size() == 1; });
    EXPECT_FALSE(sent.error);
    expect_equal(inbox.messages.front(), bytes);
    inbox.messages.clear();
  }
}

TEST_F(CmExchangeTest, ADeviceByItsNameMeetsOverTcp) {
  Met both{device_name(), device_name(), host()};
  EXPECT_TRUE(says(both.client.explain(), "over TCP,")) << both.client.explain();
}

TEST_F(CmExchangeTest, WhereTheServerHasNoRdmaCmTheClientGoesOverToTcpAndSaysSo) {
  Met both{device_name(), "rdma", host()};
  EXPECT_TRUE(says(both.client.explain(), "over TCP (not by rdma_cm: nobody there listens"))
      << both.client.explain();
}

TEST_F(CmExchangeTest, AnAddressThatRdmaCmHasNoDeviceForIsReachedOverTcp) {
  Met both{"rdma", "rdma", "127.0.0.1"};
  EXPECT_TRUE(says(both.client.explain(), "over TCP (not by rdma_cm: ")) << both.client.explain();
}

TEST_F(CmExchangeTest, ManyConnectAndLeaveOneAfterAnother) {
  Loops loops;
  std::deque<Connection> servers;
  const Listener listener = listen(loops.server_loop, at("rdma", host(), 0),
                                   [&](Connection connection) { servers.push_back(std::move(connection)); });
  for (std::size_t i = 0; i < 30; ++i) {
    Connection client;
    std::string failure;
    connect(loops.client_loop, at("rdma", host(), listener.port()),
            [&](const Error* error, Connection connection) {
              if (error) failure = error->what();
              client = std::move(connection);
            });
    loops.until("a connection", [&] { return !failure.empty() || servers.size() == 1; });
    ASSERT_EQ(failure, "");
    client.close();
    loops.until("its end", [&] { return !servers.front().is_open(); });
    servers.clear();
  }
}

TEST_F(CmExchangeTest, ThePeersCloseIsHeard) {
  Met both{"rdma", "rdma", host()};
  const Ending ending{both.server};
  both.client.close();
  both.until("the end", [&] { return ending.times > 0; });
  EXPECT_EQ(ending.times, 1);
  EXPECT_EQ(ending.error, code(errc::connection_lost));
  EXPECT_TRUE(says(ending.why, "closed the connection")) << ending.why;
}

// ---- A peer's death ----

const Role listens_role{"listens by rdma_cm", [](Line& parent) {
                          Loop loop{small_options()};
                          Connection kept;
                          const Listener listener =
                              listen(loop, at("rdma", host(), 0),
                                     [&](Connection connection) { kept = std::move(connection); });
                          parent.put(listener.port());
                          loop.run();
                        }};

TEST_F(CmExchangeTest, AKilledPeerIsMissedWithoutAWordToIt) {
  Child child{"listens by rdma_cm"};
  Loop loop{small_options()};
  Connection client = connect(loop, at("rdma", host(), child.line().get<std::uint16_t>()));
  const Ending ending{client};
  child.kill();
  loop.run_until([&] { return ending.times > 0; });
  EXPECT_EQ(ending.error, code(errc::connection_lost));
}

// ---- Why not ----

TEST_F(CmExchangeTest, OneMorePeerThanDeclaredIsRefusedWithTheReason) {
  Options options = small_options();
  options.peers = 1;
  Loops loops{options, small_options()};
  Connection first;
  std::deque<Connection> servers;
  const Listener listener = listen(loops.server_loop, at("rdma", host(), 0),
                                   [&](Connection connection) { servers.push_back(std::move(connection)); });
  connect(loops.client_loop, at("rdma", host(), listener.port()),
          [&](const Error*, Connection connection) { first = std::move(connection); });
  loops.until("the first", [&] { return servers.size() == 1 && first.is_open(); });
  const Refusal refusal = refusal_of(loops, at("rdma", host(), listener.port()));
  EXPECT_EQ(refusal.code, code(errc::connection_refused));
  EXPECT_TRUE(says(refusal.sentence, "1 connections already")) << refusal.sentence;
}

TEST_F(CmExchangeTest, NobodyListens) {
  Loops loops;
  const std::uint16_t port = listen(loops.server_loop, at("rdma", host(), 0), [](Connection) {}).port();
  const Refusal refusal = refusal_of(loops, at("rdma", host(), port));
  EXPECT_EQ(refusal.code, code(errc::connection_refused));
  EXPECT_TRUE(says(refusal.sentence, "nobody listens")) << refusal.sentence;
}

TEST_F(CmExchangeTest, ATakenPortIsSaid) {
  Loops loops;
  const Listener first = listen(loops.server_loop, at("rdma", host(), 0), [](Connection) {});
  try {
    listen(loops.client_loop, at("rdma", host(), first.port()), [](Connection) {});
    FAIL() << "it listens twice";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code(errc::address_in_use));
  }
}

}  // namespace
}  // namespace verbena::test
