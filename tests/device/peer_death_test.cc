// SPDX-License-Identifier: Apache-2.0
// A peer process that is killed at any moment: the survivor learns of it, goes on, and nothing is left
// behind.
#include <dirent.h>

#include <fstream>
#include <set>

#include "device/device_test.h"
#include "device/remote_process.h"

namespace verbena::test {
namespace {

enum class Activity : int { idle, writing, reading, sending };

/// Does one thing to the parent's memory for ever.
const Role victim{
    "victim", [](Line& parent) {
      const auto device = open_test_device();
      Endpoint endpoint{*device, {.receiver_not_ready_retries = 7, .receiver_not_ready_timer = 1}};
      Buffer& memory = meet_parent(endpoint, parent);
      const auto activity = parent.get<Activity>();
      const auto target = parent.get<Remote>();
      memory.fill(0x42);
      for (std::uint64_t i = 0;; ++i) {
        parent.put(
            '.');  // the parent's buffer of the socket bounds how far this runs ahead; a dead parent ends it
        switch (activity) {
          case Activity::idle:
            parent.sleep_until_woken();
            break;
          case Activity::writing:
            endpoint.post(write({memory.piece()}, target));
            break;
          case Activity::reading:
            endpoint.post(read({memory.piece()}, target));
            break;
          case Activity::sending:
            endpoint.post(send({memory.piece()}));
        }
        if (endpoint.sent().status != IBV_WC_SUCCESS) return;
      }
    }};

std::set<std::string> entries_of(const char* folder) {
  std::set<std::string> names;
  if (DIR* directory = opendir(folder)) {
    while (const dirent* entry = readdir(directory)) names.insert(entry->d_name);
    closedir(directory);
  }
  return names;
}

/// Names of this library's that processes leave where others see them.
std::set<std::string> visible_names() {
  std::set<std::string> names;
  for (const std::string& name : entries_of("/dev/shm")) {
    if (name.find("verbena") != name.npos) names.insert("/dev/shm/" + name);
  }
  std::ifstream sockets{"/proc/net/unix"};
  for (std::string line; std::getline(sockets, line);) {
    if (const auto at = line.find("@verbena"); at != line.npos) names.insert(line.substr(at));
  }
  return names;
}

class PeerDeathTest : public DeviceTest {
 protected:
  void SetUp() override {
    names_before_ = visible_names();
    DeviceTest::SetUp();
  }

  /// Posts until one fails, as a program does that doesn't know yet.
  static ibv_wc_status first_failure(RemoteProcess& peer) {
    Endpoint& endpoint = peer.endpoint();
    Buffer& near = endpoint.buffer(64);
    ibv_wc_status status = IBV_WC_SUCCESS;
    wait_until("an operation towards a dead peer to fail", [&] {
      endpoint.post(write({near.piece()}, peer.remote()));
      status = endpoint.sent().status;
      return status != IBV_WC_SUCCESS;
    });
    return status;
  }

  static void expect_loss(ibv_wc_status status) {
    // Whichever of its operations the device gives up first; those behind are flushed.
    EXPECT_TRUE(status == IBV_WC_RETRY_EXC_ERR || status == IBV_WC_WR_FLUSH_ERR) << name_of(status);
  }

  const std::set<std::string>& names_before() const { return names_before_; }

 private:
  std::set<std::string> names_before_;
};

TEST_F(PeerDeathTest, AnIdlePeersDeathShowsAtTheNextOperation) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::shared, 4096}};
  peer.kill();
  expect_loss(first_failure(peer));
}

TEST_F(PeerDeathTest, OperationsPostedBeforeTheDeathComplete) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::shared, 4096}};
  Endpoint& endpoint = peer.endpoint();
  // No receive: they wait in the send queue, and must not wait for ever once the peer is gone.
  for (std::uint64_t i = 0; i < 8; ++i) endpoint.post(send({}).with_id(i));
  peer.kill();
  for (std::uint64_t i = 0; i < 8; ++i) {
    const ibv_wc completion = endpoint.sent();
    EXPECT_EQ(completion.wr_id, i);
    expect_loss(completion.status);
  }
}

constexpr EndpointOptions unreliable{.type = IBV_QPT_UC};

const Role unreliable_victim{"unreliable victim", [](Line& parent) {
                               const auto device = open_test_device();
                               Endpoint endpoint{*device, unreliable};
                               meet_parent(endpoint, parent);
                               parent.sleep_until_woken();
                             }};

TEST_F(PeerDeathTest, AnUnreliableConnectionGoesOnAndLosesEverything) {
  for (const MemoryKind kind : {MemoryKind::heap, MemoryKind::shared}) {
    SCOPED_TRACE(name_of(kind));
    RemoteProcess peer{device(), "unreliable victim", {kind, 64 * 1024}, unreliable};
    Endpoint& endpoint = peer.endpoint();
    Buffer& near = endpoint.buffer(64 * 1024);
    endpoint.post(write({near.piece()}, peer.remote()).with_id(1));
    expect_success(endpoint.sent(), IBV_WC_RDMA_WRITE, 1, endpoint);
    peer.kill();
    for (std::uint64_t id = 2; id < 40; ++id) {
      endpoint.post((id % 2 ? send({near.piece()}) : write({near.piece()}, peer.remote())).with_id(id));
      EXPECT_EQ(name_of(endpoint.sent().status), name_of(IBV_WC_SUCCESS));
    }
    EXPECT_EQ(endpoint.state(), IBV_QPS_RTS);
  }
}

TEST_F(PeerDeathTest, AnyMomentOfDeathIsSurvived) {
  Dice dice;
  constexpr std::size_t size = 32 * 1024;
  std::size_t descriptors = 0;
  for (std::size_t round = 0; round < quirks().rounds; ++round) {
    const auto activity = static_cast<Activity>(dice.between(0, 3));
    const auto kind = static_cast<MemoryKind>(dice.between(0, 2));
    SCOPED_TRACE("round " + std::to_string(round) + ", activity " +
                 std::to_string(static_cast<int>(activity)) + ", memory " + name_of(kind));
    RemoteProcess peer{device(), "victim", {kind, size}};
    Endpoint& endpoint = peer.endpoint();
    Buffer& memory = endpoint.buffer(size, kind);
    // A source of its own: what the peer sends lands in `memory` while these writes are read.
    Buffer& source = endpoint.buffer(4096, kind);
    for (int i = 0; i < 32; ++i) endpoint.post_receive(memory.piece());
    peer.child().line().put(activity);
    peer.child().line().put(memory.remote());
    peer.child().line().get<char>();
    // Both sides at work, then the end at some point of an operation.
    for (std::size_t i = dice.between(0, 8); i > 0; --i) {
      endpoint.post(write({source.piece()}, peer.remote()).unsignalled());
    }
    for (std::size_t spin = dice.between(0, 200'000); spin > 0; --spin) asm volatile("");
    peer.kill();
    expect_loss(first_failure(peer));
    if (round == 0) descriptors = entries_of("/proc/self/fd").size();
  }
  // The last peer's are gone with it; each round's must be.
  wait_until("the dead peers' descriptors to be closed",
             [&] { return entries_of("/proc/self/fd").size() <= descriptors; });
}

TEST_F(PeerDeathTest, NothingIsLeftBehind) {
  for (int round = 0; round < 5; ++round) {
    RemoteProcess peer{device(), "victim", {MemoryKind::shared, 4096}};
    Buffer& memory = peer.endpoint().buffer(4096, MemoryKind::shared);
    peer.child().line().put(Activity::writing);
    peer.child().line().put(memory.remote());
    peer.child().line().get<char>();
    peer.kill();
    expect_loss(first_failure(peer));
  }
  // Other programs may come and go meanwhile; their names go with them.
  const std::set<std::string> own = [] {
    const auto device = open_test_device();
    return visible_names();
  }();
  wait_until("the names of dead processes to vanish", [&] {
    for (const std::string& name : visible_names()) {
      if (!names_before().contains(name) && !own.contains(name)) return false;
    }
    return true;
  });
}

}  // namespace
}  // namespace verbena::test
