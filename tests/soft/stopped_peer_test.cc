// SPDX-License-Identifier: Apache-2.0
// A peer that is stopped at the worst instruction: behind its key check, before the first byte of its copy.
// Whatever this side takes back meanwhile stays untouched when the peer goes on.
#include <signal.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/queue_pair.h"
#include "device/device_test.h"
#include "device/remote_process.h"

namespace verbena::test {
namespace {

constexpr std::size_t size = 64 * 1024;

enum class Way : int { kernel, mapping };

/// What the peer reports of its late copy: 0, or errno.
struct Outcome {
  int error;
  ibv_wc_status next;  ///< of its next write through the same key
};

/// Does by hand what QueuePair::read_or_write does, with a stop in the middle.
const Role late_writer{"late_writer", [](Line& parent) {
                         const auto device = open_test_device();
                         Endpoint endpoint{*device};
                         Buffer& memory = meet_parent(endpoint, parent);
                         const auto way = parent.get<Way>();
                         const auto target = parent.get<Remote>();
                         // Until the link is up and, for shared memory, its mapping has come.
                         auto& link = static_cast<core::soft::QueuePair*>(endpoint.qp())->link;
                         std::byte* mapped = nullptr;
                         memory.fill(0x11);
                         wait_until("the way to the memory", [&] {
                           endpoint.post(write({memory.piece()}, target));
                           if (endpoint.sent().status != IBV_WC_SUCCESS)
                             throw std::runtime_error("a write failed");
                           if (way == Way::kernel) return true;
                           const auto& entry = link.peer->table->keys[core::soft::key_index(target.rkey)];
                           if (entry.memory == 0) return false;
                           const core::soft::PeerMemory there = link.peer->memory(entry.memory);
                           mapped = there.base ? there.base + entry.memory_offset : nullptr;
                           return mapped != nullptr;
                         });
                         memory.fill(0x22);
                         auto& lock =
                             static_cast<core::soft::QueuePair*>(endpoint.qp())->send_completions().lock;
                         lock.lock();  // as a post does: the agent doesn't unmap what is in use
                         link.announce(core::soft::Role::requester, target.rkey);
                         parent.put('s');
                         raise(SIGSTOP);
                         Outcome outcome{};
                         if (way == Way::mapping) {
                           std::memcpy(mapped, memory.bytes().data(), size);
                         } else {
                           std::byte dummy{};
                           const iovec near[] = {{&dummy, 1}, {memory.bytes().data(), size}};
                           const iovec far[] = {{reinterpret_cast<void*>(link.peer_guard), 1},
                                                {reinterpret_cast<void*>(target.address), size}};
                           if (process_vm_writev(link.peer->pid, near, 2, far, 2, 0) < 0)
                             outcome.error = errno;
                         }
                         link.withdraw(core::soft::Role::requester);
                         lock.unlock();
                         endpoint.post(write({memory.piece()}, target));
                         outcome.next = endpoint.sent().status;
                         parent.put(outcome);
                       }};

struct Memory {
  MemoryKind kind;
  bool through_a_window;
};

class StoppedPeerTest : public DeviceTest, public testing::WithParamInterface<Memory> {
 protected:
  void SetUp() override {
    if (GetParam().kind != MemoryKind::shared && !core::soft::process_vm_allowed()) {
      GTEST_SKIP() << "without process_vm_writev only this process touches its private memory";
    }
    DeviceTest::SetUp();
    peer_.emplace(device(), "late_writer", PeerMemory{MemoryKind::heap, size});
    far_ = &here().buffer(size, GetParam().kind);
    Remote target = far_->remote();
    if (GetParam().through_a_window) {
      window_ = {device(), device().alloc_mw(here().pd(), IBV_MW_TYPE_2)};
      target.rkey = ibv_inc_rkey(window_->rkey);
      here().post(bind(window_.get(), target.rkey, *far_, 0, size, IBV_ACCESS_REMOTE_WRITE));
      expect_success(here().sent(), IBV_WC_BIND_MW, 0, here());
      window_->rkey = target.rkey;
    }
    Line& line = peer_->child().line();
    line.put(GetParam().kind == MemoryKind::shared ? Way::mapping : Way::kernel);
    line.put(target);
    line.get<char>();
    peer_->await_stop();
  }

  Endpoint& here() { return peer_->endpoint(); }
  Buffer& far() { return *far_; }
  core::Handle<ibv_mw>& window() { return window_; }

  /// The memory is this side's own now: nothing may change it any more.
  void expect_untouched() {
    EXPECT_EQ(far_->word(), 0x1111111111111111U) << "what was written before is lost";
    std::memset(far_->bytes().data(), 0xfe, size);
    peer_->go_on();
    const auto outcome = peer_->child().line().get<Outcome>();
    EXPECT_EQ(outcome.error, GetParam().kind == MemoryKind::shared ? 0 : EFAULT);
    EXPECT_NE(name_of(outcome.next), name_of(IBV_WC_SUCCESS));
    for (const std::byte byte : far_->bytes()) ASSERT_EQ(byte, std::byte{0xfe});
  }

  /// Another queue pair of this process doesn't suffer, and reaches the memory's new pages.
  void expect_others_unharmed() {
    Endpoint a{device()};
    Endpoint b{device(), EndpointOptions{.pd = here().pd()}};
    connect(a, b);
    Buffer& near = a.buffer(64);
    near.fill(0x33);
    a.post(write({near.piece()}, far_->remote()));
    expect_success(a.sent(), IBV_WC_RDMA_WRITE, 0, a);
    expect_equal(far_->bytes(0, 64), near.bytes());
    std::memset(far_->bytes().data(), 0x11, size);
  }

 private:
  std::optional<RemoteProcess> peer_;
  core::Handle<ibv_mw> window_;
  Buffer* far_ = nullptr;
};

TEST_P(StoppedPeerTest, ADeregistrationIsFinal) {
  if (GetParam().through_a_window) {
    EXPECT_EQ(device().dereg_mr(far().region()), EBUSY);  // the window is still bound
    ASSERT_EQ(device().dealloc_mw(window().release()), 0);
  }
  ASSERT_EQ(far().deregister(), 0);
  expect_untouched();
}

TEST_P(StoppedPeerTest, AnInvalidationFailsAndTheFlushBehindItIsFinal) {
  if (!GetParam().through_a_window) GTEST_SKIP() << "no window";
  here().post(local_invalidate(window()->rkey).with_id(1));
  here().post(send({}).with_id(2));
  expect_status(here().sent(), IBV_WC_LOC_QP_OP_ERR, 1, here());
  expect_status(here().sent(), IBV_WC_WR_FLUSH_ERR, 2, here());
  expect_others_unharmed();
  expect_untouched();
}

TEST_P(StoppedPeerTest, AFailedQueuePairsFlushIsFinal) {
  here().post_receive(Pieces{}, 1);
  ASSERT_EQ(here().to(IBV_QPS_ERR), 0);
  expect_status(here().received(), IBV_WC_WR_FLUSH_ERR, 1, here());
  expect_others_unharmed();
  expect_untouched();
}

TEST_P(StoppedPeerTest, AResetIsFinal) {
  ASSERT_EQ(here().to(IBV_QPS_RESET), 0);
  expect_others_unharmed();
  expect_untouched();
}

TEST_P(StoppedPeerTest, ADestructionIsFinal) {
  here().destroy_queue_pair();
  expect_others_unharmed();
  expect_untouched();
}

INSTANTIATE_TEST_SUITE_P(Memory, StoppedPeerTest,
                         testing::Values(Memory{MemoryKind::heap, false}, Memory{MemoryKind::heap, true},
                                         Memory{MemoryKind::shared, false}, Memory{MemoryKind::shared, true}),
                         [](const auto& memory) {
                           return name_of(memory.param.kind) +
                                  (memory.param.through_a_window ? "ThroughAWindow" : "");
                         });

}  // namespace
}  // namespace verbena::test
