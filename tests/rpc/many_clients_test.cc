// SPDX-License-Identifier: Apache-2.0
// Many clients that say little: what they cost, and what happens where there are too many.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>

#include "rpc/calls.h"
#include "support/child.h"

namespace verbena::test {
namespace {

constexpr rpc::MethodId same = 1;

Options options_for(std::uint32_t peers) {
  Options options = Options::many_peers(peers);
  options.device = device_name();
  options.busy_poll = true;
  options.large_bytes = 64 * 1024;
  return options;
}

/// SoftRoCE's completion queues have 32,767 entries at most.
std::uint32_t within_device(std::uint32_t peers) {
  return on_soft0() ? peers : std::min(peers, 100U);
}

void serve_same(rpc::Server& server) {
  server.on(same, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
}

class ManyClientsTest : public testing::Test {
 protected:
  explicit ManyClientsTest(std::uint32_t peers = 400)
      : loops_(options_for(within_device(peers)), options_for(within_device(4000))),
        server_(loops_.server_loop, address_of(0)) {
    serve_same(server_);
  }

  /// What connecting one more says; "" where it is connected.
  std::string grow() {
    std::optional<std::string> said;
    rpc::connect(loops_.client_loop, address_of(server_.port()), [&](const Error* error, rpc::Client client) {
      said = error ? error->what() : "";
      if (!error) clients_.push_back(std::move(client));
    });
    loops_.until("an answer to a client", [&] { return said.has_value(); });
    return *said;
  }
  void grow_to(std::size_t count) {
    while (clients_.size() < count) ASSERT_EQ(grow(), "");
  }
  /// All of `calls` answered, eight at a time.
  void call(rpc::Client& client, std::size_t calls) {
    const Message request = message(100);
    std::size_t done = 0;
    for (std::size_t begun = 0; done < calls;) {
      for (; begun < std::min(calls, done + 8); ++begun) {
        ASSERT_EQ(client.call(same, request,
                              [&](std::error_code error, rpc::Bytes reply) {
                                EXPECT_EQ(error, std::error_code{});
                                EXPECT_EQ(reply.size(), request.size());
                                ++done;
                              }),
                  std::error_code{});
      }
      loops_.until("a reply", [&] { return done == begun; });
    }
  }
  /// ns: the quickest of some batches.
  double time_of_an_empty_poll() {
    using clock = std::chrono::steady_clock;
    loops_.settle();
    double best = std::numeric_limits<double>::max();
    for (int batch = 0; batch < 20; ++batch) {
      constexpr int polls = 1000;
      const auto start = clock::now();
      for (int i = 0; i < polls; ++i) loops_.server_loop.poll();
      best = std::min(best, std::chrono::duration<double, std::nano>(clock::now() - start).count() / polls);
    }
    return best;
  }

  Loops loops_;
  rpc::Server server_;
  std::vector<rpc::Client> clients_;
};

/// Bytes. Without pages of files: the share in those grows when another process that runs the same test ends.
std::size_t resident_share() {
  std::size_t sum = 0;
  std::ifstream lines("/proc/self/smaps_rollup");
  for (std::string line; std::getline(lines, line);) {
    for (const std::string_view kind : {"Pss_Anon:", "Pss_Shmem:"}) {
      if (line.starts_with(kind)) sum += std::strtoull(line.c_str() + kind.size(), nullptr, 10) * 1024;
    }
  }
  return sum;
}

bool is_sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

TEST_F(ManyClientsTest, ABusyOneIsServedAmongIdleOnesThatTakeLittleMemory) {
  if (!on_soft0()) GTEST_SKIP() << "a device of its own memory";
  grow_to(200);
  for (rpc::Client& client : clients_) call(client, 20);
  call(clients_.front(), 5000);
  const std::size_t before = resident_share();
  grow_to(300);
  for (std::size_t i = 200; i < 300; ++i) call(clients_[i], 20);
  const std::size_t each = (resident_share() - before) / 100;
  call(clients_.front(), 5000);
  call(clients_.back(), 100);
  // docs/many-clients.md: 16 KiB a side, and both are in this process; a half more for what others allocate.
  if (!is_sanitized()) {
    EXPECT_LT(each, 3U * 16 * 1024);
  }
}

TEST_F(ManyClientsTest, AnEmptyPollTakesNoLongerWithIdleOnes) {
  if (!on_soft0()) GTEST_SKIP() << "an HCA looks by itself";
  grow_to(10);  // more than the rings that each poll looks at
  const double with_few = time_of_an_empty_poll();
  grow_to(300);
  const double with_many = time_of_an_empty_poll();
  // One load for each idle client would be a hundred times as long on cold lines, thirty times on warm ones.
  EXPECT_LT(with_many, 3 * with_few + 20) << with_few << " ns with 10";
}

class FewPeersTest : public ManyClientsTest {
 protected:
  FewPeersTest() : ManyClientsTest(3) {}
};

TEST_F(FewPeersTest, OneTooManyIsRefusedWithTheRemedyAndTheOthersGoOn) {
  grow_to(3);
  for (int i = 0; i < 5; ++i) EXPECT_NE(grow().find("raise Options::peers"), std::string::npos);
  for (rpc::Client& client : clients_) call(client, 100);
  clients_.pop_back();
  loops_.until("the room of one that left", [&] { return server_.connections() == 2; });
  loops_.until("its place", [&] { return grow().empty(); });
  call(clients_.back(), 100);
}

/// Serves with room for a few more descriptors than it has, until its parent ends it.
const Role short_of_descriptors{"server short of descriptors", [](Line& parent) {
                                  Loop loop(options_for(400));
                                  rpc::Server server(loop, address_of(0));
                                  serve_same(server);
                                  namespace fs = std::filesystem;
                                  const auto open = static_cast<rlim_t>(std::distance(
                                      fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
                                  rlimit limit{};
                                  ::getrlimit(RLIMIT_NOFILE, &limit);
                                  limit.rlim_cur = open + 12;
                                  ::setrlimit(RLIMIT_NOFILE, &limit);
                                  parent.put(server.port());
                                  for (;;) loop.poll();
                                }};

TEST(DescriptorsTest, AServerThatHasNoneLeftSaysSoAndKeepsItsClients) {
  if (!on_soft0()) GTEST_SKIP() << "a connection of a real device takes others";
  Child server("server short of descriptors");
  const std::string address = address_of(server.line().get<std::uint16_t>());
  Loop loop(options_for(400));
  std::vector<rpc::Client> clients;
  std::string refusal;
  while (refusal.empty() && clients.size() < 50) {
    try {
      clients.push_back(rpc::connect(loop, address));
    } catch (const Error& error) {
      refusal = error.what();
    }
  }
  EXPECT_NE(refusal.find("ulimit -n"), std::string::npos) << refusal;
  ASSERT_GE(clients.size(), 4U);
  const auto call_all = [&] {
    for (rpc::Client& client : clients) {
      bool done = false;
      ASSERT_EQ(client.call(same, message(10),
                            [&](std::error_code error, rpc::Bytes) {
                              EXPECT_EQ(error, std::error_code{});
                              done = true;
                            }),
                std::error_code{});
      wait_until("a reply", [&] {
        loop.poll();
        return done;
      });
    }
  };
  call_all();
  clients.pop_back();  // its descriptor is another one's
  wait_until("a place", [&] {
    try {
      clients.push_back(rpc::connect(loop, address));
      return true;
    } catch (const Error&) {
      return false;
    }
  });
  call_all();
}

}  // namespace
}  // namespace verbena::test
