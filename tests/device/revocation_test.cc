// SPDX-License-Identifier: Apache-2.0
// The buffer rule, at the device: when a deregistration or an invalidation is done, nothing of a peer touches
// the memory any more, not even an operation that was on its way.
#include <atomic>
#include <cstring>
#include <thread>

#include "device/device_test.h"

namespace verbena::test {
namespace {

constexpr std::size_t size = 64 * 1024;

/// Writes to `remote` again and again, a new value each time, until refused; the status of the refusal.
ibv_wc_status hammer(Endpoint& endpoint, Remote remote, std::atomic<std::uint64_t>& writes) {
  Buffer& near = endpoint.buffer(size);
  const auto end = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < end) {
    near.fill(static_cast<unsigned char>(writes.load() + 1));
    endpoint.post(write({near.piece()}, remote));
    const ibv_wc completion = endpoint.sent();
    if (completion.status != IBV_WC_SUCCESS) return completion.status;
    ++writes;
  }
  return IBV_WC_SUCCESS;
}

/// A peer's thread that hammers a piece of memory until it is refused.
class Hammerer {
 public:
  Hammerer(Endpoint& endpoint, Remote remote)
      : thread_{[this, &endpoint, remote] {
          try {
            ended_with_ = hammer(endpoint, remote, writes_);
          } catch (...) {
            failure_ = std::current_exception();
          }
          ended_ = true;
        }} {}
  ~Hammerer() {
    if (thread_.joinable()) thread_.join();
  }
  Hammerer(const Hammerer&) = delete;
  Hammerer& operator=(const Hammerer&) = delete;

  /// Returns at a random moment, amid its writes.
  void wait_for_a_random_moment(Dice& dice) {
    const std::uint64_t enough = dice.between(1, 20);
    wait_until("the peer's writes", [&] { return writes_ >= enough || ended_; });
    for (std::size_t spin = dice.between(0, 5000); spin > 0; --spin) asm volatile("");
  }

  ibv_wc_status join() {
    thread_.join();
    if (failure_) std::rethrow_exception(failure_);
    return ended_with_;
  }

 private:
  std::atomic<std::uint64_t> writes_{0};
  std::atomic<bool> ended_{false};
  ibv_wc_status ended_with_ = IBV_WC_SUCCESS;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses the others
};

class RevocationTest : public DeviceTest, public testing::WithParamInterface<MemoryKind> {
 protected:
  /// From here on the memory is this side's own.
  static void put_canaries(Buffer& far) { std::memset(far.bytes().data(), 0xfe, far.size()); }
  static void expect_canaries(const Buffer& far) {
    for (const std::byte byte : far.bytes()) ASSERT_EQ(byte, std::byte{0xfe});
  }
};

TEST_P(RevocationTest, NothingTouchesMemoryAfterItsDeregistration) {
  Dice dice;
  for (std::size_t round = 0; round < quirks().rounds / 4; ++round) {
    Pair pair{device()};
    Buffer& far = pair.b.buffer(size, GetParam());
    Hammerer peer{pair.a, far.remote()};
    peer.wait_for_a_random_moment(dice);
    ASSERT_EQ(far.deregister(), 0);
    put_canaries(far);
    EXPECT_EQ(name_of(peer.join()), name_of(IBV_WC_REM_ACCESS_ERR));
    expect_canaries(far);
  }
}

TEST_P(RevocationTest, NothingTouchesMemoryAfterItsWindowIsInvalidated) {
  Dice dice;
  for (std::size_t round = 0; round < quirks().rounds / 4; ++round) {
    Pair pair{device()};
    Buffer& far = pair.b.buffer(size, GetParam());
    const core::Handle<ibv_mw> window{device(), device().alloc_mw(pair.b.pd(), IBV_MW_TYPE_2)};
    const std::uint32_t key = ibv_inc_rkey(window->rkey);
    pair.b.post(bind(window.get(), key, far, 0, size, IBV_ACCESS_REMOTE_WRITE));
    expect_success(pair.b.sent(), IBV_WC_BIND_MW, 0, pair.b);
    Hammerer peer{pair.a, {far.remote().address, key}};
    peer.wait_for_a_random_moment(dice);
    pair.b.post(local_invalidate(key));
    expect_success(pair.b.sent(), IBV_WC_LOCAL_INV, 0, pair.b);
    if (quirks().invalidation_stops_writes_under_way) {
      put_canaries(far);
      EXPECT_EQ(name_of(peer.join()), name_of(IBV_WC_REM_ACCESS_ERR));
    } else {
      EXPECT_EQ(name_of(peer.join()), name_of(IBV_WC_REM_ACCESS_ERR));
      put_canaries(far);
    }
    expect_canaries(far);
  }
}

TEST_P(RevocationTest, NothingTouchesMemoryAfterItsQueuePairFailedAndDrained) {
  Dice dice;
  for (std::size_t round = 0; round < quirks().rounds / 10; ++round) {
    Pair pair{device(), EndpointOptions{.retries = 1}};
    Buffer& far = pair.b.buffer(size, GetParam());
    pair.b.post_receive(Pieces{}, 1);
    Hammerer peer{pair.a, far.remote()};
    peer.wait_for_a_random_moment(dice);
    ASSERT_EQ(pair.b.to(IBV_QPS_ERR), 0);
    pair.b.post(send({}).with_id(2));
    expect_status(pair.b.sent(), IBV_WC_WR_FLUSH_ERR, 2, pair.b);
    expect_status(pair.b.received(), IBV_WC_WR_FLUSH_ERR, 1, pair.b);
    put_canaries(far);
    EXPECT_EQ(name_of(peer.join()), name_of(IBV_WC_RETRY_EXC_ERR));
    expect_canaries(far);
  }
}

TEST_P(RevocationTest, NothingTouchesMemoryAfterItsQueuePairIsDestroyed) {
  Dice dice;
  for (std::size_t round = 0; round < quirks().rounds / 10; ++round) {
    Pair pair{device(), EndpointOptions{.retries = 1}};
    Buffer& far = pair.b.buffer(size, GetParam());
    Hammerer peer{pair.a, far.remote()};
    peer.wait_for_a_random_moment(dice);
    pair.b.destroy_queue_pair();
    put_canaries(far);
    EXPECT_EQ(name_of(peer.join()), name_of(IBV_WC_RETRY_EXC_ERR));
    expect_canaries(far);
  }
}

using DeregistrationTest = DeviceTest;

INSTANTIATE_TEST_SUITE_P(Kinds, RevocationTest,
                         testing::Values(MemoryKind::heap, MemoryKind::mapped, MemoryKind::shared),
                         [](const auto& kind) { return name_of(kind.param); });

TEST_F(DeregistrationTest, MemoryCanBeFreedAndRegisteredAgainUnderANewKey) {
  Pair pair{device()};
  std::uint32_t key_before = 0;
  for (int round = 0; round < 100; ++round) {
    Buffer far{device(), pair.b.pd(), 4096};
    Buffer near{device(), pair.a.pd(), 4096};
    near.fill(static_cast<unsigned char>(round));
    EXPECT_NE(far.region()->rkey, key_before);
    key_before = far.region()->rkey;
    pair.a.post(write({near.piece()}, far.remote()));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
    expect_equal(far.bytes(), near.bytes());
  }
}

}  // namespace
}  // namespace verbena::test
