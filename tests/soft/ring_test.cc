// SPDX-License-Identifier: Apache-2.0
// The ring's counters wrap around: a lap number after 2^22 slots, a position after 2^32. A connection lives
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

struct Ring {
  const char* name;
  std::uint32_t depth;  // of the queue pairs: a short ring or a long one
  std::uint32_t wrap;
};
class RingTest : public DeviceTest, public testing::WithParamInterface<Ring> {};
class UnequalRingsTest : public DeviceTest {};

TEST_P(RingTest, MessagesOfEverySizePassThePointWhereACounterWraps) {
  Dice dice;
  constexpr std::size_t size = 12'000;
  constexpr std::uint32_t laps = 4;
  EndpointOptions options;
  options.send_depth = GetParam().depth;
  Pair pair{device(), options};
  Buffer& from = pair.a.buffer(size);
  Buffer& into = pair.b.buffer(size);
  const std::uint32_t start = GetParam().wrap - laps * soft::most_ring_slots;
  start_at(start, pair);
  dice.fill(from.bytes());
  while (inside(pair.b).link.in_head - start < 2 * laps * soft::most_ring_slots) {
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

constexpr std::uint32_t last_lap_number = 65535U * soft::least_ring_slots;
INSTANTIATE_TEST_SUITE_P(Wraps, RingTest,
                         testing::Values(Ring{"LapsOfAShortRing", 32, last_lap_number},
                                         Ring{"PositionsOfAShortRing", 32, 0},
                                         Ring{"LapsOfALongRing", 128, last_lap_number},
                                         Ring{"PositionsOfALongRing", 128, 0}),
                         [](const auto& ring) { return ring.param.name; });

// Two queue pairs of unequal depths: each writes into a ring of the other's length.
TEST_F(UnequalRingsTest, CarryMessagesBothWays) {
  Dice dice;
  constexpr std::size_t size = 60'000;
  EndpointOptions deep;
  deep.send_depth = 128;
  Pair pair{device(), {}, deep};
  for (int round = 0; round < 200; ++round) {
    Endpoint& from = round % 2 ? pair.a : pair.b;
    Endpoint& to = round % 2 ? pair.b : pair.a;
    Buffer& source = from.buffer(size);
    Buffer& target = to.buffer(size);
    dice.fill(source.bytes());
    const std::size_t length = dice.between(1, size);
    to.post_receive(target.piece());
    from.post(send({source.piece(0, length)}));
    ASSERT_EQ(to.received().byte_len, length);
    expect_success(from.sent(), IBV_WC_SEND, 0, from);
    expect_equal(target.bytes(0, length), source.bytes(0, length));
  }
}

// A peer's file decides how long we take its ring to be: only what a ring may be is taken.
TEST(RingFileTest, OnlyTheLengthOfARingIsARing) {
  const auto slots_of = [](std::size_t length) {
    return soft::ring_slots_of(soft::create_shared_file("test", length));
  };
  EXPECT_EQ(slots_of(soft::inbound_bytes(soft::least_ring_slots)), soft::least_ring_slots);
  EXPECT_EQ(slots_of(soft::inbound_bytes(soft::most_ring_slots)), soft::most_ring_slots);
  for (const std::size_t length :
       {std::size_t{0}, soft::page_size, soft::inbound_bytes(soft::least_ring_slots / 2),
        soft::inbound_bytes(3 * soft::least_ring_slots), soft::inbound_bytes(soft::least_ring_slots) + 1,
        soft::inbound_bytes(2 * soft::most_ring_slots), std::size_t{1} << 30}) {
    EXPECT_EQ(slots_of(length), 0U) << length;
  }
  EXPECT_EQ(soft::ring_slots_of(soft::Descriptor()), 0U);
}

}  // namespace
}  // namespace verbena::test
