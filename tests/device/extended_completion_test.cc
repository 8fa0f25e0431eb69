// SPDX-License-Identifier: Apache-2.0
// Completion queues that are read field by field (ibv_create_cq_ex), and tell when a completion came.
#include <poll.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <stop_token>
#include <thread>

#include "device/device_test.h"

namespace verbena::test {
namespace {

std::uint64_t nanoseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

class ExtendedCompletionTest : public DeviceTest {
 protected:
  struct Queue {
    core::Handle<ibv_comp_channel> channel;
    core::Handle<ibv_cq> cq;
    ibv_cq_ex* face = nullptr;
  };

  Queue make_queue(std::uint64_t fields, std::uint32_t flags = 0) {
    Queue queue;
    queue.channel = {device(), device().create_comp_channel()};
    ibv_cq_init_attr_ex init{};
    init.cqe = 64;
    init.cq_context = this;
    init.channel = queue.channel.get();
    init.wc_flags = fields;
    init.comp_mask = IBV_CQ_INIT_ATTR_MASK_FLAGS;
    init.flags = flags;
    queue.face = ibv_create_cq_ex(device().context(), &init);
    if (!queue.face) throw std::system_error(errno, std::generic_category(), "creating an extended CQ");
    queue.cq = {device(), ibv_cq_ex_to_cq(queue.face)};
    return queue;
  }
  static void start(ibv_cq_ex* face) {
    ibv_poll_cq_attr attr{};
    wait_until("a completion", [&] {
      const int result = ibv_start_poll(face, &attr);
      EXPECT_TRUE(result == 0 || result == ENOENT) << result;
      return result == 0;
    });
  }
  bool keeps_times() {
    ibv_device_attr_ex attr{};
    return ibv_query_device_ex(device().context(), nullptr, &attr) == 0 &&
           attr.completion_timestamp_mask != 0;
  }
};

TEST_F(ExtendedCompletionTest, EachCompletionIsReadFieldByField) {
  Queue queue = make_queue(IBV_WC_STANDARD_FLAGS);
  Endpoint a{device()};
  Endpoint b{device(), {.receive_cq = queue.cq.get()}};
  connect(a, b);
  Buffer& from = a.buffer(100);
  Buffer& into = b.buffer(100);
  for (std::uint64_t id = 0; id < 3; ++id) b.post_receive(into.piece(), 70 + id);
  for (std::uint32_t i = 0; i < 3; ++i) {
    a.post(send_with_imm({from.piece(0, 10 + i)}, 40 + i));
    expect_success(a.sent(), IBV_WC_SEND, 0, a);
  }
  start(queue.face);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(queue.face->wr_id, 70 + i);
    EXPECT_EQ(queue.face->status, IBV_WC_SUCCESS);
    EXPECT_EQ(ibv_wc_read_opcode(queue.face), IBV_WC_RECV);
    EXPECT_EQ(ibv_wc_read_byte_len(queue.face), 10 + i);
    EXPECT_EQ(ntohl(ibv_wc_read_imm_data(queue.face)), 40 + i);
    EXPECT_EQ(ibv_wc_read_qp_num(queue.face), b.number());
    EXPECT_NE(ibv_wc_read_wc_flags(queue.face) & IBV_WC_WITH_IMM, 0U);
    EXPECT_EQ(ibv_wc_read_vendor_err(queue.face), 0U);
    if (i < 2) {
      wait_until("the next one", [&] { return ibv_next_poll(queue.face) == 0; });
    }
  }
  EXPECT_EQ(ibv_next_poll(queue.face), ENOENT);
  ibv_end_poll(queue.face);
  if (!quirks().ends_extended_polls) return;
  ibv_poll_cq_attr attr{};
  EXPECT_EQ(ibv_start_poll(queue.face, &attr), ENOENT);
}

TEST_F(ExtendedCompletionTest, AFailureHasItsStatus) {
  Queue queue = make_queue(IBV_WC_STANDARD_FLAGS, IBV_CREATE_CQ_ATTR_SINGLE_THREADED);
  Endpoint b{device(), {.receive_cq = queue.cq.get()}};
  b.to_init();
  b.post_receive(Pieces{}, 5);
  ASSERT_EQ(b.to(IBV_QPS_ERR), 0);
  start(queue.face);
  EXPECT_EQ(name_of(queue.face->status), name_of(IBV_WC_WR_FLUSH_ERR));
  EXPECT_EQ(queue.face->wr_id, 5U);
  ibv_end_poll(queue.face);
}

TEST_F(ExtendedCompletionTest, ItIsPolledAndArmedAsAnyOther) {
  Queue queue = make_queue(IBV_WC_STANDARD_FLAGS);
  Endpoint a{device()};
  Endpoint b{device(), {.receive_cq = queue.cq.get()}};
  connect(a, b);
  b.post_receive(Pieces{}, 8);
  ASSERT_EQ(ibv_req_notify_cq(queue.cq.get(), 0), 0);
  a.post(send({}));
  pollfd readable{queue.channel->fd, POLLIN, 0};
  ASSERT_EQ(poll(&readable, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())), 1);
  ibv_cq* raised = nullptr;
  void* cq_context = nullptr;
  ASSERT_EQ(device().get_cq_event(queue.channel.get(), &raised, &cq_context), 0);
  EXPECT_EQ(raised, queue.cq.get());
  EXPECT_EQ(cq_context, this);
  device().ack_cq_events(raised, 1);
  expect_success(b.received(), IBV_WC_RECV, 8, b);  // by ibv_poll_cq
}

TEST_F(ExtendedCompletionTest, TwoThreadsReadWholeCompletions) {
  Queue queue = make_queue(IBV_WC_STANDARD_FLAGS);
  Endpoint a{device()};
  Endpoint b{device(), {.receive_cq = queue.cq.get()}};
  connect(a, b);
  // In trains: a lone send's acknowledgement may wait for dozens of polls, and on a busy machine each of them
  // yields.
  constexpr std::uint32_t train = 20;
  const auto messages = static_cast<std::uint32_t>(quirks().rounds / train * train);
  std::atomic<std::uint32_t> seen{0};
  const auto read_all = [&](const std::stop_token& stop) {
    ibv_poll_cq_attr attr{};
    while (seen < messages && !stop.stop_requested()) {
      if (ibv_start_poll(queue.face, &attr) != 0) {
        std::this_thread::yield();
        continue;
      }
      EXPECT_EQ(queue.face->wr_id, ntohl(ibv_wc_read_imm_data(queue.face)));
      ++seen;
      ibv_end_poll(queue.face);
    }
  };
  std::jthread one{read_all};
  std::jthread other{read_all};
  for (std::uint32_t first = 0; first < messages; first += train) {
    for (std::uint32_t i = first; i < first + train; ++i) {
      b.post_receive(Pieces{}, i);
      a.post(send_with_imm({}, i));
    }
    for (std::uint32_t i = 0; i < train; ++i) expect_success(a.sent(), IBV_WC_SEND, 0, a);
  }
  wait_until("the last completion", [&] { return seen == messages; });
}

TEST_F(ExtendedCompletionTest, ACompletionTellsWhenItCame) {
  if (!keeps_times()) GTEST_SKIP() << "this device has no clock";
  Queue queue =
      make_queue(IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK);
  ibv_device_attr_ex attr{};
  ASSERT_EQ(ibv_query_device_ex(device().context(), nullptr, &attr), 0);
  ASSERT_EQ(attr.hca_core_clock, 1'000'000U) << "kHz: nanoseconds";
  Endpoint a{device()};
  Endpoint b{device(), {.receive_cq = queue.cq.get()}};
  connect(a, b);
  std::uint64_t last = 0;
  for (int i = 0; i < 20; ++i) {
    b.post_receive(Pieces{});
    const std::uint64_t before = nanoseconds(CLOCK_MONOTONIC);
    const std::uint64_t wall_before = nanoseconds(CLOCK_REALTIME);
    a.post(send({}));
    start(queue.face);
    const std::uint64_t came = ibv_wc_read_completion_ts(queue.face);
    const std::uint64_t wall = ibv_wc_read_completion_wallclock_ns(queue.face);
    ibv_end_poll(queue.face);
    EXPECT_GE(came, before);
    EXPECT_GE(came, last);
    EXPECT_LE(came, nanoseconds(CLOCK_MONOTONIC));
    constexpr std::uint64_t between_two_clock_readings = 1'000'000;
    EXPECT_GE(wall + between_two_clock_readings, wall_before);
    EXPECT_LE(wall, nanoseconds(CLOCK_REALTIME) + between_two_clock_readings);
    last = came;
    expect_success(a.sent(), IBV_WC_SEND, 0, a);
  }
}

// What has come is stamped when somebody looks: here, when the queue is armed.
TEST_F(ExtendedCompletionTest, TheTimeIsNotThatOfTheReading) {
  if (!keeps_times()) GTEST_SKIP() << "this device has no clock";
  Queue queue = make_queue(IBV_WC_EX_WITH_COMPLETION_TIMESTAMP);
  Endpoint a{device()};
  Endpoint b{device(), {.receive_cq = queue.cq.get()}};
  connect(a, b);
  b.post_receive(Pieces{});
  b.post_receive(Pieces{});
  a.post(send({}));
  start(queue.face);  // the link is up
  ibv_end_poll(queue.face);
  a.post(send({}));
  ASSERT_EQ(ibv_req_notify_cq(queue.cq.get(), 0), 0);
  const std::uint64_t armed = nanoseconds(CLOCK_MONOTONIC);
  EXPECT_TRUE(stays([] { return true; }, std::chrono::milliseconds{5}));
  start(queue.face);
  EXPECT_LE(ibv_wc_read_completion_ts(queue.face), armed);
  ibv_end_poll(queue.face);
}

TEST_F(ExtendedCompletionTest, TheDevicesClockIsTold) {
  if (!keeps_times()) GTEST_SKIP() << "this device has no clock";
  ibv_values_ex values{};
  values.comp_mask = IBV_VALUES_MASK_RAW_CLOCK;
  const std::uint64_t before = nanoseconds(CLOCK_MONOTONIC);
  ASSERT_EQ(ibv_query_rt_values_ex(device().context(), &values), 0);
  EXPECT_EQ(values.comp_mask, std::uint32_t{IBV_VALUES_MASK_RAW_CLOCK});
  EXPECT_GE(static_cast<std::uint64_t>(values.raw_clock.tv_nsec), before);
  EXPECT_LE(static_cast<std::uint64_t>(values.raw_clock.tv_nsec), nanoseconds(CLOCK_MONOTONIC));
}

TEST_F(ExtendedCompletionTest, WhatTheDeviceDoesNotKnowIsRefused) {
  for (const std::uint64_t field : {IBV_WC_EX_WITH_CVLAN, IBV_WC_EX_WITH_FLOW_TAG, IBV_WC_EX_WITH_TM_INFO}) {
    EXPECT_THROW(make_queue(field), std::system_error);
    EXPECT_EQ(errno, EOPNOTSUPP);
  }
}

}  // namespace
}  // namespace verbena::test
