// SPDX-License-Identifier: Apache-2.0
// A soft0 with a fault plan: each fault is met as verbs say that such a thing is, and no later than it must.
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "core/soft/context.h"
#include "core/soft/queue_pair.h"
#include "core/soft/soft_device.h"
#include "device/device_test.h"
#include "device/remote_process.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using core::soft::FaultPlan;

constexpr std::size_t size = 64 * 1024;

std::unique_ptr<core::Device> open_with(const std::string& plan) {
  return core::open_soft_device(FaultPlan::parse(plan));
}

template <class Act>
std::chrono::nanoseconds time_of(Act act) {
  const auto begin = Clock::now();
  act();
  return Clock::now() - begin;
}

TEST(FaultyDeviceTest, WithoutAPlanTheDataPathIsTheOneThatKnowsNone) {
  const auto plain = core::open_soft_device(FaultPlan{});
  const auto failing = open_with("fail-nth=100");
  const auto dropping = open_with("drop=0.1");
  const auto delaying = open_with("delay-completion=1ms");
  const auto post = [](const auto& device) { return device->context()->ops.post_send; };
  const auto poll = [](const auto& device) { return device->context()->ops.poll_cq; };
  EXPECT_EQ(post(plain), post(failing));
  EXPECT_EQ(post(plain), post(delaying));
  EXPECT_NE(post(plain), post(dropping));
  EXPECT_EQ(poll(plain), poll(dropping));
  EXPECT_NE(poll(plain), poll(delaying));
}

TEST(FaultyDeviceTest, LossAndWantOfReceivesDelayMessagesAndLoseNone) {
  const Dice dice;
  const auto device = open_with("drop=0.1,rnr=0.3,seed=" + std::to_string(dice.seed()));
  const EndpointOptions patient{.ack_timeout_exponent = 1,  // 8 µs
                                .retries = 7,
                                .receiver_not_ready_retries = 7,
                                .receiver_not_ready_timer = 1};  // 10 µs
  Pair pair{*device, patient};
  Buffer& near = pair.a.buffer(8);
  Buffer& far = pair.b.buffer(8);
  for (std::uint64_t i = 0; i < 300; ++i) {
    pair.b.post_receive(far.piece(), i);
    near.set_word(i);
    pair.a.post(send({near.piece()}).with_id(i));
    expect_success(pair.b.received(), IBV_WC_RECV, i, pair.b);
    EXPECT_EQ(far.word(), i);
    expect_success(pair.a.sent(), IBV_WC_SEND, i, pair.a);
  }
}

TEST(FaultyDeviceTest, UnreliableMessagesAreLostInSilenceAndTheOthersStayInOrder) {
  const Dice dice;
  const auto device = open_with("drop=0.5,seed=" + std::to_string(dice.seed()));
  for (const ibv_qp_type type : {IBV_QPT_UC, IBV_QPT_UD}) {
    constexpr std::uint32_t count = 200;
    Pair pair{*device, {.type = type, .receive_depth = count}};
    ibv_ah_attr here{};
    here.port_num = 1;
    const core::Handle<ibv_ah> address{*device, device->create_ah(pair.a.pd(), here)};
    Buffer& into = pair.b.buffer(sizeof(ibv_grh));
    for (std::uint32_t i = 0; i < count; ++i) pair.b.post_receive(into.piece());
    std::vector<std::uint32_t> arrived;
    const auto take = [&] {
      for (ibv_wc completion{}; ibv_poll_cq(pair.b.receive_cq(), 1, &completion) == 1;) {
        ASSERT_EQ(name_of(completion.status), name_of(IBV_WC_SUCCESS));
        arrived.push_back(ntohl(completion.imm_data));
      }
    };
    for (std::uint32_t i = 0; i < count; ++i) {
      Work work = send_with_imm({}, i);
      if (type == IBV_QPT_UD) work = std::move(work).towards(address.get(), pair.b.number(), datagram_key);
      pair.a.post(work);
      wait_until("the send to be done", [&] {
        take();
        ibv_wc completion{};
        return ibv_poll_cq(pair.a.send_cq(), 1, &completion) == 1 && completion.status == IBV_WC_SUCCESS;
      });
    }
    take();
    EXPECT_GT(arrived.size(), count / 4);
    EXPECT_LT(arrived.size(), count * 3 / 4);
    EXPECT_TRUE(std::is_sorted(arrived.begin(), arrived.end()));
    EXPECT_EQ(pair.a.state(), IBV_QPS_RTS);
  }
}

TEST(FaultyDeviceTest, WhatIsLostAtEachTryFailsWhenTheRetriesAreUsedUp) {
  const auto device = open_with("drop=1");
  Pair pair{*device, EndpointOptions{.ack_timeout_exponent = 10, .retries = 2}};
  Buffer& near = pair.a.buffer(64);
  const auto took = time_of([&] {
    pair.a.post(write({near.piece()}, pair.b.buffer(64).remote()).with_id(1));
    pair.a.post(write({near.piece()}, pair.b.buffer(64).remote()).with_id(2));
    expect_status(pair.a.sent(), IBV_WC_RETRY_EXC_ERR, 1, pair.a);
  });
  EXPECT_GE(took, 2 * 4096ns * 1024);
  expect_status(pair.a.sent(), IBV_WC_WR_FLUSH_ERR, 2, pair.a);
}

TEST(FaultyDeviceTest, WhatNeverMeetsAReceiveFailsWhenTheRetriesAreUsedUp) {
  const auto device = open_with("rnr=1");
  Pair pair{*device, EndpointOptions{.receiver_not_ready_retries = 2, .receiver_not_ready_timer = 12}};
  Buffer& near = pair.a.buffer(64);
  Buffer& far = pair.b.buffer(64);
  pair.b.post_receive(far.piece());
  pair.a.post(write({near.piece()}, far.remote()).with_id(1));  // takes none
  const auto took = time_of([&] {
    pair.a.post(send({near.piece()}).with_id(2));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 1, pair.a);
    expect_status(pair.a.sent(), IBV_WC_RNR_RETRY_EXC_ERR, 2, pair.a);
  });
  EXPECT_GE(took, 2 * 640us);
  EXPECT_TRUE(pair.b.nothing_received());
}

TEST(FaultyDeviceTest, TheSameSeedFailsTheSameOperation) {
  const Dice dice;
  const auto first_failure = [&](std::uint64_t seed) {
    const auto device = open_with("drop=0.02,seed=" + std::to_string(seed));
    Pair pair{*device, EndpointOptions{.ack_timeout_exponent = 1, .retries = 0}};
    Buffer& near = pair.a.buffer(8);
    const Remote far = pair.b.buffer(8).remote();
    for (std::uint64_t i = 0;; ++i) {
      pair.a.post(write({near.piece()}, far));
      if (pair.a.sent().status != IBV_WC_SUCCESS) return i;
    }
  };
  const std::uint64_t failed = first_failure(dice.seed());
  EXPECT_EQ(first_failure(dice.seed()), failed);
  std::uint64_t others = 0;
  for (std::uint64_t i = 1; i <= 5; ++i) others += first_failure(dice.seed() + i) == failed;
  EXPECT_LT(others, 5U);
}

TEST(FaultyDeviceTest, ALinkIsCutAfterItsLastOperation) {
  const auto device = open_with("kill-link-after=3");
  Pair pair{*device, EndpointOptions{.retries = 1}};
  Buffer& near = pair.a.buffer(8);
  const Remote far = pair.b.buffer(8).remote();
  pair.a.post_receive(Pieces{}, 9);
  for (std::uint64_t i = 0; i < 3; ++i) {
    pair.a.post(write({near.piece()}, far).with_id(i));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, i, pair.a);
  }
  pair.a.post(write({near.piece()}, far).with_id(3));
  expect_status(pair.a.sent(), IBV_WC_RETRY_EXC_ERR, 3, pair.a);
  expect_status(pair.a.received(), IBV_WC_WR_FLUSH_ERR, 9, pair.a);
  ibv_async_event event{};
  ASSERT_EQ(device->get_async_event(event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_QP_FATAL);
  EXPECT_EQ(event.element.qp, pair.a.qp());
  device->ack_async_event(event);
  pair.b.post(write({near.piece()}, far).with_id(4));  // the other end finds out when it uses the link
  expect_status(pair.b.sent(), IBV_WC_RETRY_EXC_ERR, 4, pair.b);
  Pair next{*device};
  next.a.post(write({next.a.buffer(8).piece()}, next.b.buffer(8).remote()));
  expect_success(next.a.sent(), IBV_WC_RDMA_WRITE, 0, next.a);
}

TEST(FaultyDeviceTest, ACompletionIsKeptBackAndItsEventWithIt) {
  constexpr auto delay = 20ms;
  const auto device = open_with("delay-completion=20ms");
  Pair pair{*device};
  ibv_cq* const cq = pair.b.receive_cq();
  for (const bool asleep : {false, true}) {
    pair.b.post_receive(Pieces{}, 1);
    if (asleep) {
      ASSERT_EQ(ibv_req_notify_cq(cq, 0), 0);
    }
    const auto begin = Clock::now();
    pair.a.post(send({}).unsignalled());
    if (asleep) {
      ibv_cq* woken = nullptr;
      void* context = nullptr;
      ASSERT_EQ(device->get_cq_event(pair.b.channel(), &woken, &context), 0);
      EXPECT_EQ(woken, cq);
      device->ack_cq_events(cq, 1);
      ibv_wc completion{};
      ASSERT_EQ(ibv_poll_cq(cq, 1, &completion), 1) << "an event without its completion";
      expect_success(completion, IBV_WC_RECV, 1, pair.b);
    } else {
      expect_success(pair.b.received(), IBV_WC_RECV, 1, pair.b);
    }
    EXPECT_GE(Clock::now() - begin, delay);
  }
}

TEST(FaultyDeviceTest, OneSetUpCallFailsAndTheNextSucceeds) {
  const auto device = open_with("fail-nth=2");
  const core::Handle<ibv_pd> pd{*device, device->alloc_pd()};
  ASSERT_TRUE(pd);
  errno = 0;
  EXPECT_EQ(device->alloc_pd(), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_TRUE((core::Handle<ibv_pd>{*device, device->alloc_pd()}));
}

TEST(FaultyDeviceTest, WhicheverSetUpCallFailsNothingIsLost) {
  std::uint64_t failing = 1;
  for (bool failed = true; failed; ++failing) {
    const auto device = open_with("fail-nth=" + std::to_string(failing));
    failed = false;
    try {
      Pair pair{*device};
      std::uint64_t word = 0;
      const core::Handle<ibv_mr> region{*device,
                                        device->reg_mr(pair.a.pd(), &word, sizeof word, full_access)};
      if (!region) throw std::runtime_error("no registration");
      pair.a.post(write({}, {}));
      expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
    } catch (const std::exception&) {
      failed = true;  // and all that was made before it is given back: the sanitizer's runs see to that
    }
  }
  EXPECT_GT(failing, 10U);
}

// ---- Late copies ----

std::atomic<std::uint64_t>& hazard_of(Endpoint& owner) {
  auto& link = static_cast<core::soft::QueuePair*>(owner.qp())->link;
  return link.in->hazard[static_cast<int>(core::soft::Role::requester)];
}

/// Until a peer's copy into `far` stands between its key check and its first byte: one that had been refused
/// would have withdrawn its announcement at once.
void await_late_copy(Endpoint& owner, const Buffer& far) {
  const auto announced = [&] { return hazard_of(owner).load() == far.remote().rkey; };
  wait_until("a late copy", [&] { return announced() && stays(announced, 10ms); });
}

/// From here on a post carries its operation out itself. Nothing is copied, so nothing is late.
void await_link(Endpoint& endpoint) {
  endpoint.post(write({}, {}));
  expect_success(endpoint.sent(), IBV_WC_RDMA_WRITE, 0, endpoint);
}

class LateCopyTest : public testing::TestWithParam<MemoryKind> {};

TEST_P(LateCopyTest, ARevocationWaitsForItAsForAnyAccess) {
  const auto device = open_with("late=50ms");
  Pair pair{*device};
  Buffer& near = pair.a.buffer(size);
  Buffer& far = pair.b.buffer(size, GetParam());
  near.fill(0x11);
  far.fill(0x22);
  await_link(pair.a);
  std::jthread peer([&, remote = far.remote()] { pair.a.post(write({near.piece()}, remote)); });
  await_late_copy(pair.b, far);
  EXPECT_EQ(far.word(), 0x2222222222222222U);
  ASSERT_EQ(far.deregister(), 0);
  EXPECT_EQ(far.word(), 0x1111111111111111U) << "the copy was let in by its key, and has ended";
  std::memset(far.bytes().data(), 0xfe, size);
  peer.join();
  expect_status(pair.a.sent(), IBV_WC_REM_ACCESS_ERR, 0, pair.a);
  EXPECT_EQ(far.word(), 0xfefefefefefefefeU);
}

/// Writes once, much later than its key was checked; then reports how that went.
const Role late_writer{"late writer by plan", [](Line& parent) {
                         const auto device = open_with("late=1300ms");
                         Endpoint endpoint{*device};
                         Buffer& memory = meet_parent(endpoint, parent);
                         memory.fill(0x22);
                         await_link(endpoint);
                         endpoint.post(write({memory.piece()}, parent.get<Remote>()));
                         parent.put(endpoint.sent().status);
                       }};

TEST_P(LateCopyTest, OneThatIsLaterThanAPeerIsWaitedForHitsNothing) {
  if (GetParam() != MemoryKind::shared && !core::soft::process_vm_allowed())
    GTEST_SKIP() << "without process_vm_writev only this process touches its private memory";
  const auto device = core::open_soft_device(FaultPlan{});
  RemoteProcess peer{*device, "late writer by plan", {MemoryKind::heap, size}};
  Buffer& far = peer.endpoint().buffer(size, GetParam());
  far.fill(0x33);
  peer.child().line().put(far.remote());
  await_late_copy(peer.endpoint(), far);
  EXPECT_LT(time_of([&] { ASSERT_EQ(far.deregister(), 0); }), 1200ms);
  EXPECT_EQ(far.word(), 0x3333333333333333U);
  std::memset(far.bytes().data(), 0xfe, size);
  EXPECT_NE(name_of(peer.child().line().get<ibv_wc_status>()), name_of(IBV_WC_SUCCESS));
  for (const std::byte byte : far.bytes()) ASSERT_EQ(byte, std::byte{0xfe});
}

INSTANTIATE_TEST_SUITE_P(Kinds, LateCopyTest, testing::Values(MemoryKind::heap, MemoryKind::shared),
                         [](const auto& kind) { return name_of(kind.param); });

}  // namespace
}  // namespace verbena::test
