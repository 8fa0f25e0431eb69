// SPDX-License-Identifier: Apache-2.0
// The same semantics between two processes, and what only two can show: a peer that sleeps, or is stopped.
#include <poll.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstring>

#include "device/device_test.h"
#include "device/remote_process.h"

namespace verbena::test {
namespace {

class TwoProcessesTest : public DeviceTest {};

class TwoProcessesMemoryTest : public TwoProcessesTest,
                               public testing::WithParamInterface<std::tuple<MemoryKind, MemoryKind>> {};

constexpr std::size_t size = 20'000;

TEST_P(TwoProcessesMemoryTest, EveryOpcodeMovesTheRightBytes) {
  const auto [near_kind, far_kind] = GetParam();
  RemoteProcess peer{device(), "storekeeper", {far_kind, size}};
  Endpoint& endpoint = peer.endpoint();
  Dice dice;
  Buffer& near = endpoint.buffer(size, near_kind);
  Buffer& back = endpoint.buffer(size, near_kind);
  std::vector<std::byte> model(size);
  const auto check = [&] {
    endpoint.post(read({back.piece()}, peer.remote()));
    expect_success(endpoint.sent(), IBV_WC_RDMA_READ, 0, endpoint);
    expect_equal(back.bytes(), model);
    EXPECT_EQ(peer.checksum(), checksum(model));
  };
  for (int round = 0; round < 40; ++round) {
    dice.fill(near.bytes());
    const std::size_t length = dice.between(0, size);
    const std::size_t here = dice.between(0, size - length);
    const std::size_t there = dice.between(0, size - length);
    switch (round % 4) {
      case 0:
        endpoint.post(write({near.piece(here, length)}, peer.remote(there)));
        break;
      case 1: {
        Work work = write_with_imm({near.piece(here, length)}, peer.remote(there), 77);
        peer.expect_message({there, 0});
        endpoint.post(work);
        break;
      }
      case 2:
        peer.expect_message({there, length});
        endpoint.post(send({near.piece(here, length)}));
        break;
      default: {
        std::uint64_t word = 0;
        std::memcpy(&word, model.data() + 64, 8);
        word += length;
        std::memcpy(model.data() + 64, &word, 8);
        endpoint.post(fetch_add(near.piece(0, 8), peer.remote(64), length));
      }
    }
    EXPECT_EQ(name_of(endpoint.sent().status), name_of(IBV_WC_SUCCESS));
    if (round % 4 == 1 || round % 4 == 2) {
      const Message message = peer.message();
      EXPECT_EQ(message.length, length);
      EXPECT_EQ(message.imm, round % 4 == 1 ? 77U : 0U);
    }
    if (round % 4 != 3) std::memcpy(model.data() + there, near.bytes().data() + here, length);
    check();
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TwoProcessesMemoryTest,
                         testing::Values(std::tuple{MemoryKind::heap, MemoryKind::heap},
                                         std::tuple{MemoryKind::mapped, MemoryKind::shared},
                                         std::tuple{MemoryKind::shared, MemoryKind::heap},
                                         std::tuple{MemoryKind::shared, MemoryKind::shared}),
                         [](const auto& kinds) {
                           return name_of(std::get<0>(kinds.param)) + "To" +
                                  name_of(std::get<1>(kinds.param));
                         });

TEST_F(TwoProcessesTest, EverythingCompletesWhileTheReceiverSleeps) {
  for (const MemoryKind kind : {MemoryKind::shared, MemoryKind::heap}) {
    SCOPED_TRACE(name_of(kind));
    RemoteProcess peer{device(), "storekeeper", {kind, size}};
    Endpoint& endpoint = peer.endpoint();
    Buffer& near = endpoint.buffer(4096);
    near.fill(0x3c);
    for (std::size_t i = 0; i < 4; ++i) peer.expect_message({i * 4096, 4096});
    peer.send_to_sleep();
    for (std::uint64_t i = 0; i < 4; ++i) {
      endpoint.post(send({near.piece()}).with_id(i));
      expect_success(endpoint.sent(), IBV_WC_SEND, i, endpoint);
    }
    endpoint.post(write({near.piece()}, peer.remote()));
    expect_success(endpoint.sent(), IBV_WC_RDMA_WRITE, 0, endpoint);
    endpoint.post(read({near.piece()}, peer.remote(4096)));
    expect_success(endpoint.sent(), IBV_WC_RDMA_READ, 0, endpoint);
    endpoint.post(fetch_add(near.piece(0, 8), peer.remote(), 1));
    expect_success(endpoint.sent(), IBV_WC_FETCH_ADD, 0, endpoint);
    peer.wake();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(peer.message().length, 4096U);
  }
}

TEST_F(TwoProcessesTest, AtomicsGoOnThoughTheTargetPostsNothing) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::heap, 4096}};
  Endpoint& endpoint = peer.endpoint();
  Buffer& former = endpoint.buffer(8);
  const std::uint64_t count = 4 * quirks().rounds;  // soft0: far more than its ring has slots
  std::uint64_t first = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    endpoint.post(fetch_add(former.piece(), peer.remote(), 1));
    ASSERT_EQ(name_of(endpoint.sent().status), name_of(IBV_WC_SUCCESS)) << "atomic " << i;
    if (i == 0) first = former.word();
    ASSERT_EQ(former.word(), first + i);
  }
}

TEST_F(TwoProcessesTest, AnAtomicIsCarriedOutThoughBothSidesSleep) {
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::heap, 4096}};
  Endpoint& endpoint = peer.endpoint();
  Buffer& former = endpoint.buffer(8);
  peer.send_to_sleep();
  constexpr int count = 20;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) {
    ASSERT_EQ(ibv_req_notify_cq(endpoint.send_cq(), 0), 0);
    endpoint.post(fetch_add(former.piece(), peer.remote(), 1));
    pollfd readable{endpoint.channel()->fd, POLLIN, 0};
    ASSERT_EQ(poll(&readable, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())), 1);
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    ASSERT_EQ(device().get_cq_event(endpoint.channel(), &cq, &context), 0);
    device().ack_cq_events(cq, 1);
    expect_success(endpoint.sent(), IBV_WC_FETCH_ADD, 0, endpoint);
  }
  // Nobody waits for a turn of soft0's thread, which is 100 ms.
  EXPECT_LT(std::chrono::steady_clock::now() - start, count * std::chrono::milliseconds{50});
  peer.wake();
}

TEST_F(TwoProcessesTest, ABrokenAccessIsRefusedAndTheTargetIsUnharmed) {
  constexpr std::size_t page = 4096;  // shared memory ends where a page does
  RemoteProcess peer{device(), "storekeeper", {MemoryKind::shared, page}};
  Endpoint& endpoint = peer.endpoint();
  Buffer& near = endpoint.buffer(64);
  near.fill(0xbd);
  const std::uint64_t before = peer.checksum();
  endpoint.post(write({near.piece()}, peer.remote(page - 63)).with_id(1));
  expect_status(endpoint.sent(), IBV_WC_REM_ACCESS_ERR, 1, endpoint);
  EXPECT_EQ(peer.checksum(), before);
}

TEST_F(TwoProcessesTest, StreamsInBothDirectionsKeepOrderAndContent) {
  RemoteProcess peer{device(), "streamer", {MemoryKind::heap, stream_memory}};
  stream(peer.endpoint(), peer.endpoint().buffer(stream_memory));
  peer.finish();
}

/// What a peer process does to this one's memory while it is taken away.
class HammeredTest : public TwoProcessesTest, public testing::WithParamInterface<MemoryKind> {
 protected:
  static void expect_canaries(const Buffer& far) {
    for (const std::byte byte : far.bytes()) ASSERT_EQ(byte, std::byte{0xfe});
  }
};

TEST_P(HammeredTest, NothingTouchesMemoryAfterItsDeregistration) {
  Dice dice;
  for (std::size_t round = 0; round < quirks().rounds / 10; ++round) {
    RemoteProcess peer{device(), "hammerer", {GetParam(), hammer_memory}};
    Buffer& far = peer.endpoint().buffer(hammer_memory, GetParam());
    peer.start_hammering(far.remote());
    wait_until("the peer's writes", [&] { return far.word() != 0; });
    for (std::size_t spin = dice.between(0, 100'000); spin > 0; --spin) asm volatile("");
    ASSERT_EQ(far.deregister(), 0);
    std::memset(far.bytes().data(), 0xfe, far.size());
    EXPECT_EQ(name_of(peer.hammering_ended_with()), name_of(IBV_WC_REM_ACCESS_ERR));
    expect_canaries(far);
  }
}

TEST_P(HammeredTest, APeerStoppedInTheMiddleCannotHoldDeregistrationUp) {
  Dice dice;
  for (std::size_t round = 0; round < quirks().rounds / 10; ++round) {
    RemoteProcess peer{device(), "hammerer", {GetParam(), hammer_memory}};
    Buffer& far = peer.endpoint().buffer(hammer_memory, GetParam());
    peer.start_hammering(far.remote());
    wait_until("the peer's writes", [&] { return far.word() != 0; });
    for (std::size_t spin = dice.between(0, 100'000); spin > 0; --spin) asm volatile("");
    peer.stop();
    const auto start = std::chrono::steady_clock::now();
    ASSERT_EQ(far.deregister(), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds{5});
    std::memset(far.bytes().data(), 0xfe, far.size());
    peer.go_on();
    EXPECT_NE(name_of(peer.hammering_ended_with()), name_of(IBV_WC_SUCCESS));
    expect_canaries(far);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, HammeredTest,
                         testing::Values(MemoryKind::heap, MemoryKind::mapped, MemoryKind::shared),
                         [](const auto& kind) { return name_of(kind.param); });

// ---- Memory that its owner has named otherwise ----

constexpr std::uint64_t iova = 0x1000;
constexpr std::size_t renamed_size = 32 * 1024;

const Role renamer{"renamer", [](Line& parent) {
                     const auto device = open_test_device();
                     Endpoint endpoint{*device};
                     alignas(4096) static std::array<std::uint64_t, renamed_size / 8> memory{};
                     const core::Handle<ibv_mr> region{
                         *device,
                         device->reg_mr_iova(endpoint.pd(), memory.data(), renamed_size, iova, full_access)};
                     parent.put(endpoint.facts());
                     parent.put(region->rkey);
                     endpoint.connect(parent.get<EndpointFacts>());
                     parent.put('r');
                     parent.get<char>();
                     // Acquire: the word was written last by an atomic operation of the device's thread.
                     parent.put(std::atomic_ref{memory[1]}.load(std::memory_order_acquire));
                   }};

TEST_F(TwoProcessesTest, MemoryIsReachedByTheAddressesThatItsOwnerHasGivenIt) {
  Child child{"renamer"};
  Endpoint endpoint{device()};
  const auto facts = child.line().get<EndpointFacts>();
  const Remote far{iova, child.line().get<std::uint32_t>()};
  child.line().put(endpoint.facts());
  endpoint.connect(facts);
  child.line().get<char>();
  Buffer& near = endpoint.buffer(renamed_size);
  Buffer& back = endpoint.buffer(renamed_size);
  Dice dice;
  dice.fill(near.bytes());
  near.set_word(70, 8);
  endpoint.post(write({near.piece()}, far));
  expect_success(endpoint.sent(), IBV_WC_RDMA_WRITE, 0, endpoint);
  endpoint.post(fetch_add(back.piece(0, 8), {far.address + 8, far.rkey}, 7));
  expect_success(endpoint.sent(), IBV_WC_FETCH_ADD, 0, endpoint);
  EXPECT_EQ(back.word(), 70U);
  endpoint.post(read({back.piece()}, far));
  expect_success(endpoint.sent(), IBV_WC_RDMA_READ, 0, endpoint);
  near.set_word(77, 8);
  expect_equal(back.bytes(), near.bytes());
  child.line().put('.');
  EXPECT_EQ(child.line().get<std::uint64_t>(), 77U);
  EXPECT_EQ(child.join(), 0);
}

}  // namespace
}  // namespace verbena::test
