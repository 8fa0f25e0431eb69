// SPDX-License-Identifier: Apache-2.0
// The ring's counters wrap around: a lap number after 2^25 slots, a position after 2^32. A connection lives
// longer.
#include "core/soft/context.h"
#include "core/soft/queue_pair.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

namespace soft = core::soft;

soft::QueuePair& inside(Endpoint& endpoint) {
  return *static_cast<soft::QueuePair*>(endpoint.qp());
}

/// As if so many slots had passed in both directions.
void start_at(std::uint32_t position, Pair& pair) {
  const auto is_up = [](Endpoint& endpoint) {
    const soft::BothSides locked(inside(endpoint));  // the agent attaches links in its own time
    return inside(endpoint).link.is_up();
  };
  wait_until("the link", [&] { return is_up(pair.a) && is_up(pair.b); });
  for (soft::QueuePair* qp : {&inside(pair.a), &inside(pair.b)}) {
    const soft::BothSides locked(*qp);
    qp->link.in_head = position;
    qp->link.in->progress = soft::Progress{position, 0}.pack();
  }
  for (soft::QueuePair* qp : {&inside(pair.a), &inside(pair.b)}) {
    const soft::BothSides locked(*qp);
    qp->link.out_tail = qp->link.out_consumed = position;
    qp->link.heard = position;
  }
}

class RingTest : public DeviceTest, public testing::WithParamInterface<std::uint32_t> {};

TEST_P(RingTest, MessagesOfEverySizePassThePointWhereACounterWraps) {
  Dice dice;
  constexpr std::size_t size = 12'000;
  constexpr std::uint32_t laps = 4;
  Pair pair{device()};
  Buffer& from = pair.a.buffer(size);
  Buffer& into = pair.b.buffer(size);
  const std::uint32_t start = GetParam() - laps * soft::ring_slots;
  start_at(start, pair);
  dice.fill(from.bytes());
  while (inside(pair.b).link.in_head - start < 2 * laps * soft::ring_slots) {
    const std::size_t length = dice.one_in(3) ? dice.between(0, 48) : dice.between(0, size);
    const std::size_t offset = dice.between(0, size - length);
    pair.b.post_receive(into.piece());
    pair.a.post(send({from.piece(offset, length)}));
    const ibv_wc received = pair.b.received();
    ASSERT_EQ(name_of(received.status), name_of(IBV_WC_SUCCESS)) << "slot " << inside(pair.b).link.in_head;
    ASSERT_EQ(received.byte_len, length);
    expect_equal(into.bytes(0, length), from.bytes(offset, length));
    expect_success(pair.a.sent(), IBV_WC_SEND, 0, pair.a);
  }
}

constexpr std::uint32_t last_lap_number = 65535U * soft::ring_slots;
INSTANTIATE_TEST_SUITE_P(Wraps, RingTest, testing::Values(last_lap_number, 0U),
                         [](const auto& at) { return at.param == 0 ? "Positions" : "Laps"; });

}  // namespace
}  // namespace verbena::test
