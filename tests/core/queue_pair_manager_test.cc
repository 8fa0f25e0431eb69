// SPDX-License-Identifier: Apache-2.0
#include "core/queue_pair_manager.h"

#include <array>

#include "core/completion_queue.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

using core::QueuePair;
using core::QueuePairManager;

class QueuePairManagerTest : public DeviceTest {
 protected:
  static constexpr std::uint32_t send_depth = 8;

  void SetUp() override {
    DeviceTest::SetUp();
    pd_ = {device(), device().alloc_pd()};
    ASSERT_TRUE(pd_);
    ibv_srq_init_attr init{};
    init.attr = {64, 1, 0};
    srq_ = {device(), device().create_srq(pd_.get(), init)};
    ASSERT_TRUE(srq_);
    queue_.emplace(device(), 512);
    manager_.emplace(device(), pd_.get(), queue_->get(), srq_.get(),
                     core::QueuePairOptions{.send_depth = send_depth}, keep_idle);
  }

  static constexpr std::size_t keep_idle = 2;

  QueuePairManager& manager() { return *manager_; }

  ibv_wc next() {
    ibv_wc completion{};
    wait_until("a completion", [&] { return queue_->poll({&completion, 1}) == 1; });
    return completion;
  }

  /// What a loop does with each completion; whether it was a drain marker.
  bool dispatch(const ibv_wc& completion) {
    if (completion.wr_id != QueuePairManager::drain_marker) return false;
    manager().on_drained(completion.qp_num);
    return true;
  }

  void drain() {
    while (manager().draining() != 0) dispatch(next());
  }

  static int post_send(QueuePair& queue_pair, std::uint64_t id) {
    ibv_send_wr request{};
    request.wr_id = id;
    request.opcode = IBV_WR_SEND;
    request.send_flags = IBV_SEND_SIGNALED;
    ibv_send_wr* bad = nullptr;
    return ibv_post_send(queue_pair.get(), &request, &bad);
  }

 private:
  core::Handle<ibv_pd> pd_;
  core::Handle<ibv_srq> srq_;
  std::optional<core::CompletionQueue> queue_;
  std::optional<QueuePairManager> manager_;
};

TEST_F(QueuePairManagerTest, ARetiredOneDrainsBeforeItIsReused) {
  QueuePair& first = manager().acquire();
  const std::uint32_t number = first.number();
  EXPECT_EQ(manager().active(), 1U);
  manager().retire(first);
  EXPECT_EQ(manager().active(), 0U);
  EXPECT_EQ(manager().draining(), 1U);
  EXPECT_EQ(manager().idle(), 0U);
  drain();
  EXPECT_EQ(manager().idle(), 1U);
  QueuePair& second = manager().acquire();
  EXPECT_EQ(second.number(), number);
  EXPECT_EQ(second.state(), IBV_QPS_INIT);
}

TEST_F(QueuePairManagerTest, TheDrainMarkerComesBehindEverythingElse) {
  QueuePair& a = manager().acquire();
  QueuePair& b = manager().acquire();
  a.bring_up(b.facts());
  b.bring_up(a.facts());
  // As many as were declared: the marker has its place besides them. No receive is posted, so they all wait.
  for (std::uint64_t i = 0; i < send_depth; ++i) ASSERT_EQ(post_send(a, 100 + i), 0);
  manager().retire(a);
  for (std::uint64_t i = 0; i < send_depth; ++i) {
    const ibv_wc completion = next();
    EXPECT_EQ(completion.wr_id, 100 + i);
    EXPECT_EQ(name_of(completion.status), name_of(IBV_WC_WR_FLUSH_ERR));
    EXPECT_EQ(manager().draining(), 1U);
  }
  EXPECT_TRUE(dispatch(next()));
  EXPECT_EQ(manager().draining(), 0U);
}

TEST_F(QueuePairManagerTest, AReusedOneConnects) {
  for (int round = 0; round < 5; ++round) {
    QueuePair& a = manager().acquire();
    QueuePair& b = manager().acquire();
    a.bring_up(b.facts());
    b.bring_up(a.facts());
    EXPECT_EQ(a.state(), IBV_QPS_RTS);
    manager().retire(a);
    manager().retire(b);
    drain();
    EXPECT_EQ(manager().idle(), 2U);
  }
}

TEST_F(QueuePairManagerTest, NoMoreIdleOnesAreKeptThanAskedFor) {
  std::array<QueuePair*, 5> all{};
  for (QueuePair*& each : all) each = &manager().acquire();
  for (QueuePair* each : all) manager().retire(*each);
  EXPECT_EQ(manager().draining(), 5U);
  drain();
  EXPECT_EQ(manager().idle(), keep_idle);
}

TEST_F(QueuePairManagerTest, AnUnknownNumberIsIgnored) {
  manager().on_drained(0xffffff);
  EXPECT_EQ(manager().idle(), 0U);
}

}  // namespace
}  // namespace verbena::test
